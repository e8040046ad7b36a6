//! Calling functions. A call in tail position comes back as a value that the loop in
//! [`Run::apply`] takes up, so that tail recursion takes no depth. Positions and tokens of
//! errors are set on the way up as jsonata-js sets them.

use super::{Fail, R, Run};
use crate::arena::ArenaVec;
use crate::ast::{Kind, NodeId, NodeRef};
use crate::error::{Raise, Span};
use crate::signature::{Signature, Slot};
use crate::value::{Array, Content, Frame, Function, FunctionKind, Lambda, Value};

/// What a built-in function is called with.
pub(crate) struct Call<'a, 'v> {
    pub(crate) args: &'v [Value<'a>],
    /// The context value.
    pub(crate) input: Value<'a>,
    pub(crate) env: &'a Frame<'a>,
}

impl<'a> Call<'a, '_> {
    #[inline]
    pub(crate) fn arg(&self, index: usize) -> Value<'a> {
        self.args.get(index).copied().unwrap_or(Value::Undefined)
    }
}

impl<'a> Run<'a> {
    /// The name that a call uses, for errors; of a literal its text.
    fn procedure_name(&self, procedure: NodeRef<'a>) -> Option<&'a [u8]> {
        match &procedure.node.kind {
            Kind::Variable(name) => Some(&name.text),
            Kind::String(text) => Some(text),
            Kind::Bool(b) => Some(if *b { b"true" } else { b"false" }),
            Kind::Number(number) => self.arena.alloc_slice(crate::number::print(*number).as_bytes()).ok(),
            Kind::Path { steps, .. } => match &procedure.at(steps[0]).node.kind {
                Kind::Name(name) => Some(name),
                Kind::Variable(name) => Some(&name.text),
                _ => None,
            },
            _ => None,
        }
    }

    /// A field was called whose name is that of a function.
    fn forgotten_dollar(&self, procedure: NodeRef<'a>, env: &'a Frame<'a>) -> R<Option<String>> {
        let Kind::Path { steps, .. } = &procedure.node.kind else { return Ok(None) };
        let Kind::Name(name) = &procedure.at(steps[0]).node.kind else { return Ok(None) };
        let bound = self.lookup(env, &crate::ast::Name::new(name))?;
        let truthy = match bound {
            Value::Undefined | Value::Null | Value::Bool(false) => false,
            Value::Number(n) => n.value != 0.0,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        Ok(truthy.then(|| crate::wtf8::to_str(name).into_owned()))
    }

    #[inline(never)]
    pub(super) fn call(
        &self,
        node: NodeRef<'a>,
        procedure: NodeId,
        arguments: &'a [NodeId],
        input: Value<'a>,
        env: &'a Frame<'a>,
        applied_to: Option<Value<'a>>,
    ) -> R<Value<'a>> {
        let procedure = node.at(procedure);
        let function = self.eval(procedure, input, env)?;
        if function.is_undefined()
            && let Some(name) = self.forgotten_dollar(procedure, env)?
        {
            return Err(Raise::new("T1005").at(node.node.span).token(name).into());
        }
        let mut args = ArenaVec::with_capacity(self.arena, arguments.len() + 1)?;
        if let Some(value) = applied_to {
            args.push(value)?;
        }
        for argument in arguments {
            args.push(match self.eval(node.at(*argument), input, env)? {
                Value::Function(f) if !matches!(f.kind, FunctionKind::Wrapped(_)) => {
                    Value::Function(self.function(FunctionKind::Wrapped(f))?)
                }
                value => value,
            })?;
        }
        let name = self.procedure_name(procedure);
        if let Value::Function(f) = function
            && !matches!(f.kind, FunctionKind::Wrapped(_) | FunctionKind::Regex { .. })
        {
            f.called_as.set(name);
            f.called_at.set(node.node.span);
        }
        self.apply(function, args.as_slice(), input, env).map_err(|fail| match fail {
            Fail::Raise(mut raise) => {
                if raise.span.is_none() {
                    raise = raise.at(node.node.span);
                }
                if raise.token.is_none() {
                    raise.token = name.map(|n| crate::wtf8::to_str(n).into_owned());
                }
                Fail::Raise(raise)
            }
            over => over,
        })
    }

    /// Calls a function, and then those that it ends with.
    pub(crate) fn apply(
        &self,
        function: Value<'a>,
        args: &[Value<'a>],
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let mut result = self.apply_once(function, args, input, env)?;
        while let Value::Function(Function {
            kind: FunctionKind::TailCall { call, input: inner, env: scope },
            ..
        }) = result
        {
            self.tick(1)?;
            let Kind::Call { procedure, arguments } = &call.node.kind else { break };
            let procedure = call.at(*procedure);
            let next = self.eval(procedure, *inner, scope)?;
            if let Value::Function(f) = next {
                if let Kind::Variable(name) = &procedure.node.kind {
                    f.called_as.set(Some(&name.text));
                }
                f.called_at.set(procedure.node.span);
            }
            let mut args = ArenaVec::with_capacity(self.arena, arguments.len())?;
            for argument in arguments {
                args.push(self.eval(call.at(*argument), *inner, scope)?)?;
            }
            result = self.apply_once(next, args.as_slice(), input, env)?;
        }
        Ok(result)
    }

    fn apply_once(
        &self,
        function: Value<'a>,
        args: &[Value<'a>],
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let Value::Function(f) = function else {
            return Err(Raise::new("T1006").into());
        };
        self.apply_function(f, args, input, env).map_err(|fail| match fail {
            Fail::Raise(mut raise) => {
                if raise.token.is_none()
                    && let Some(name) = f.called_as.get()
                {
                    raise.token = Some(crate::wtf8::to_str(name).into_owned());
                }
                if !f.called_at.get().is_none() {
                    raise = raise.at(f.called_at.get());
                }
                Fail::Raise(raise)
            }
            over => over,
        })
    }

    fn apply_function(
        &self,
        f: &'a Function<'a>,
        args: &[Value<'a>],
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        match &f.kind {
            FunctionKind::Lambda(lambda) => match lambda.signature {
                Some(signature) => {
                    let args = self.validated(signature, args, input)?;
                    self.apply_lambda(lambda, args)
                }
                None => self.apply_lambda(lambda, args),
            },
            FunctionKind::Builtin(builtin) => {
                let signature = crate::functions::signature(builtin);
                if let Some(signature) = signature
                    && !signature.fits(args, |array, letter| self.elements_are(array, letter))?
                {
                    let args = self.validated(signature, args, input)?;
                    return (builtin.run)(self, &Call { args, input, env });
                }
                (builtin.run)(self, &Call { args, input, env })
            }
            FunctionKind::Host(function) => {
                if !function.signature.fits(args, |array, letter| self.elements_are(array, letter))? {
                    let args = self.validated(&function.signature, args, input)?;
                    return self.call_host(function, args);
                }
                self.call_host(function, args)
            }
            FunctionKind::Wrapped(inner) => self.apply(Value::Function(inner), args, Value::Null, env),
            FunctionKind::Partial { inner, arguments } => {
                let mut all = ArenaVec::with_capacity(self.arena, arguments.len())?;
                let mut given = args.iter();
                for argument in *arguments {
                    all.push(match argument {
                        Some(value) => *value,
                        None => given.next().copied().unwrap_or(Value::Undefined),
                    })?;
                }
                match &inner.kind {
                    FunctionKind::Lambda(lambda) => self.apply_lambda(lambda, all.as_slice()),
                    FunctionKind::Builtin(builtin) => {
                        let call = Call { args: all.as_slice(), input: Value::Undefined, env };
                        (builtin.run)(self, &call)
                    }
                    _ => self.apply(Value::Function(inner), all.as_slice(), Value::Undefined, env),
                }
            }
            FunctionKind::Chain(first, second) => {
                let between =
                    self.apply(Value::Function(first), &args[..args.len().min(1)], Value::Null, env)?;
                self.apply(Value::Function(second), &[between], Value::Null, env)
            }
            FunctionKind::Transform { node, env: scope } => {
                let argument = args.first().copied().unwrap_or(Value::Undefined);
                if !matches!(argument, Value::Undefined | Value::Object(_) | Value::Array(_)) {
                    return Err(Raise::new("T0410").index(1).value(self.show(argument)).into());
                }
                self.transform(*node, argument, scope)
            }
            FunctionKind::TailCall { .. } => Ok(Value::Function(f)),
            FunctionKind::Regex { regex, node } => {
                let Some(Value::String(text)) = args.first().copied() else { return Ok(Value::Undefined) };
                self.match_object(regex, *node, text, 0)
            }
            FunctionKind::NextMatch { regex, node, text, from } => self.next_match(regex, *node, text, *from),
        }
    }

    fn apply_lambda(&self, lambda: &Lambda<'a>, args: &[Value<'a>]) -> R<Value<'a>> {
        let frame = self.frame(Some(lambda.env))?;
        for (i, parameter) in lambda.parameters.iter().enumerate() {
            self.bind(frame, parameter, args.get(i).copied().unwrap_or(Value::Undefined))?;
        }
        self.eval(lambda.body, lambda.input, frame)
    }

    fn elements_are(&self, array: &'a Array<'a>, letter: u8) -> R<bool> {
        if matches!(array.content.get(), Content::Range(..)) {
            return Ok(letter == b'n');
        }
        let items = self.items(array)?;
        self.tick(items.len() as u64 / 8)?;
        Ok(items.iter().all(|item| item.type_letter() == letter))
    }

    /// Checks arguments against a signature; fills in the context value and wraps what must be
    /// an array.
    fn validated(&self, signature: &Signature, args: &[Value<'a>], input: Value<'a>) -> R<&'a [Value<'a>]> {
        let letters: Vec<u8> = args.iter().map(|a| a.type_letter()).collect();
        let mut failed = None;
        let slots = signature
            .validate(&letters, input.type_letter(), |index, wanted| {
                let Some(Value::Array(array)) = args.get(index) else { return Ok(false) };
                match self.elements_are(array, wanted) {
                    Ok(they_are) => Ok(they_are),
                    Err(fail) => {
                        failed = Some(fail);
                        Ok(true)
                    }
                }
            })
            .map_err(|raise| {
                let index = raise.index.unwrap_or(1);
                let at_fault = if raise.code == "T0411" {
                    input
                } else {
                    args.get(index - 1).copied().unwrap_or(Value::Undefined)
                };
                raise.value(self.show(at_fault))
            })?;
        if let Some(fail) = failed {
            return Err(fail);
        }
        let mut out = ArenaVec::with_capacity(self.arena, slots.len())?;
        for slot in slots {
            out.push(match slot {
                Slot::Argument(i) => args.get(i).copied().unwrap_or(Value::Undefined),
                Slot::Wrapped(i) => self.plain(self.arena.alloc_slice(&args[i..=i])?)?,
                Slot::Undefined => Value::Undefined,
                Slot::Context => input,
            })?;
        }
        Ok(out.finish())
    }

    /// Calls a function that was given as an argument, as a built-in does.
    pub(crate) fn invoke(&self, function: Value<'a>, args: &[Value<'a>], env: &'a Frame<'a>) -> R<Value<'a>> {
        self.deeper(|| self.apply(function, args, Value::Null, env))
    }

    /// How many arguments a function takes.
    pub(crate) fn arity(&self, function: Value<'a>) -> usize {
        let Value::Function(mut f) = function else { return 0 };
        loop {
            return match &f.kind {
                FunctionKind::Wrapped(inner) => {
                    f = inner;
                    continue;
                }
                FunctionKind::Lambda(lambda) => lambda.parameters.len(),
                FunctionKind::Builtin(builtin) => usize::from(builtin.arity),
                FunctionKind::Host(function) => function.signature.len(),
                FunctionKind::Partial { arguments, .. } => arguments.iter().filter(|a| a.is_none()).count(),
                FunctionKind::Regex { .. } => 2,
                FunctionKind::Transform { .. } | FunctionKind::Chain(..) => 1,
                FunctionKind::TailCall { .. } | FunctionKind::NextMatch { .. } => 0,
            };
        }
    }

    #[inline(never)]
    pub(super) fn partial(
        &self,
        node: NodeRef<'a>,
        procedure: NodeId,
        arguments: &'a [NodeId],
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let mut given = ArenaVec::with_capacity(self.arena, arguments.len())?;
        for argument in arguments {
            let argument = node.at(*argument);
            given.push(match &argument.node.kind {
                Kind::Placeholder => None,
                _ => Some(self.eval(argument, input, env)?),
            })?;
        }
        let procedure = node.at(procedure);
        let value = self.eval(procedure, input, env)?;
        let at: Span = node.node.span;
        if value.is_undefined()
            && let Some(name) = self.forgotten_dollar(procedure, env)?
        {
            return Err(Raise::new("T1007").at(at).token(name).into());
        }
        let Value::Function(mut inner) = value else {
            let name = self.procedure_name(procedure).map(crate::wtf8::to_str).unwrap_or_default();
            return Err(Raise::new("T1008").at(at).token(name).into());
        };
        while let FunctionKind::Wrapped(f) = &inner.kind {
            inner = f;
        }
        // Every parameter is either given, here undefined if it was not written, or open.
        let parameters = match &inner.kind {
            FunctionKind::Lambda(lambda) => lambda.parameters.len(),
            FunctionKind::Builtin(builtin) => usize::from(builtin.parameters),
            FunctionKind::Host(function) => function.signature.len(),
            FunctionKind::Partial { arguments, .. } => arguments.iter().filter(|a| a.is_none()).count(),
            _ => given.len(),
        };
        let mut bound = ArenaVec::with_capacity(self.arena, parameters)?;
        for i in 0..parameters {
            bound.push(given.as_slice().get(i).copied().unwrap_or(Some(Value::Undefined)))?;
        }
        let kind = FunctionKind::Partial { inner, arguments: bound.finish() };
        Ok(Value::Function(self.function(kind)?))
    }
}
