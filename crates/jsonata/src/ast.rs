//! Two trees. The parser makes [`Raw`] nodes as the grammar reads; `compile` turns them into
//! [`Node`]s in which paths are flat lists of steps. Both are flat tables with indices for
//! children: dropping a tree of any depth does not recurse.

use std::ops::Deref;

use crate::error::Span;
use crate::host::Host;
use crate::regex::Regex;
use crate::signature::Signature;

/// How deep syntax may nest. More is error `S0901`.
pub(crate) const HEIGHT_MAX: u32 = 2_500;

pub(crate) type RawId = u32;
pub(crate) type NodeId = u32;

/// Binary operators that are evaluated on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Concat,
    And,
    Or,
    In,
    Range,
}

impl Op {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Remainder => "%",
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::LessEqual => "<=",
            Op::Greater => ">",
            Op::GreaterEqual => ">=",
            Op::Concat => "&",
            Op::And => "and",
            Op::Or => "or",
            Op::In => "in",
            Op::Range => "..",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "+" => Op::Add,
            "-" => Op::Subtract,
            "*" => Op::Multiply,
            "/" => Op::Divide,
            "%" => Op::Remainder,
            "=" => Op::Equal,
            "!=" => Op::NotEqual,
            "<" => Op::Less,
            "<=" => Op::LessEqual,
            ">" => Op::Greater,
            ">=" => Op::GreaterEqual,
            "&" => Op::Concat,
            "and" => Op::And,
            "or" => Op::Or,
            "in" => Op::In,
            ".." => Op::Range,
            _ => return None,
        })
    }
}

/// A node as parsed.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) kind: RawKind,
    pub(crate) span: Span,
    pub(crate) keep_array: bool,
    pub(crate) height: u32,
    /// From the first unit of its first token to behind its last one.
    pub(crate) extent: Span,
}

#[derive(Debug)]
pub(crate) enum RawKind {
    Name(Box<[u8]>),
    Variable(Box<[u8]>),
    String(Box<[u8]>),
    Number(f64),
    Bool(bool),
    Null,
    Regex {
        pattern: Box<[u16]>,
        ignore_case: bool,
        multi_line: bool,
    },
    /// `and`, `or`, `in` where an operand is expected: field names.
    Word(&'static str),
    /// `?` as an argument.
    Placeholder,
    Wildcard,
    Descendant,
    Parent,
    /// The expression ended where an operand was expected.
    End,
    /// What the parser made of text with a syntax error, reported already; the parts that it
    /// could read. Only where it recovers.
    Invalid(Vec<RawId>),
    Binary {
        op: Op,
        lhs: RawId,
        rhs: RawId,
    },
    Map {
        lhs: RawId,
        rhs: RawId,
    },
    Filter {
        lhs: RawId,
        rhs: RawId,
    },
    Group {
        lhs: RawId,
        pairs: Vec<(RawId, RawId)>,
    },
    Sort {
        lhs: RawId,
        terms: Vec<(bool, RawId)>,
    },
    Bind {
        variable: RawId,
        rhs: RawId,
    },
    Focus {
        lhs: RawId,
        variable: RawId,
    },
    Index {
        lhs: RawId,
        variable: RawId,
    },
    Apply {
        lhs: RawId,
        rhs: RawId,
    },
    Negate(RawId),
    Array(Vec<RawId>),
    Object(Vec<(RawId, RawId)>),
    Call {
        procedure: RawId,
        arguments: Vec<RawId>,
        partial: bool,
    },
    Lambda {
        parameters: Vec<RawId>,
        signature: Option<Signature>,
        body: RawId,
    },
    Condition {
        condition: RawId,
        then: RawId,
        otherwise: Option<RawId>,
    },
    /// `a ?: b` and, with `coalesce`, `a ?? b`.
    Default {
        lhs: RawId,
        rhs: RawId,
        coalesce: bool,
    },
    Transform {
        pattern: RawId,
        update: RawId,
        delete: Option<RawId>,
    },
    Block(Vec<RawId>),
}

/// A variable's name with a hash, so that a look-up seldom compares text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: Box<[u8]>,
    pub(crate) hash: u32,
    /// What the name means if nothing is bound over it: a built-in function by its index, or,
    /// behind those, a function or constant of the host.
    pub(crate) global: Option<u16>,
}

impl Name {
    pub(crate) fn new(text: &[u8]) -> Self {
        Self { text: text.into(), hash: hash(text), global: crate::functions::find(text) }
    }
}

/// FNV-1a over a name.
pub(crate) const fn hash(text: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5u32;
    let mut i = 0;
    while i < text.len() {
        hash = (hash ^ text[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

/// A predicate or index binding of a step, in the order written.
#[derive(Debug)]
pub(crate) enum Stage {
    Filter(NodeId),
    Index(Name),
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) pairs: Box<[(NodeId, NodeId)]>,
    /// All keys are strings that are written down, all different: nothing can be wrong with them.
    pub(crate) is_plain: bool,
    /// And none needs an escape where it is written.
    pub(crate) writes_plain: bool,
    pub(crate) span: Span,
}

/// What most nodes do not have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Predicates of an expression that is not a path.
    pub(crate) predicates: Vec<NodeId>,
    /// Predicates and index bindings of a step.
    pub(crate) stages: Vec<Stage>,
    pub(crate) group: Option<Group>,
    /// `@$name`.
    pub(crate) focus: Option<Name>,
    /// `#$name` before any predicate.
    pub(crate) index: Option<Name>,
    /// The parent slot that this step fills.
    pub(crate) ancestor: Option<usize>,
    /// Its name, once all are resolved.
    pub(crate) ancestor_name: Option<Name>,
    /// Parent slots below this node that no step has filled yet; empty when compiled.
    pub(crate) seeking: Vec<usize>,
}

/// A compiled node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
    /// `[]` was written behind it.
    pub(crate) keep_array: bool,
    /// An array constructor that keeps its array whole within a path.
    pub(crate) cons: bool,
    /// The step binds variables, so the path works on tuples from here on.
    pub(crate) tuple: bool,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Node {
    /// A step that is a name, with no predicate and nothing to bind.
    pub(crate) fn is_bare_name(&self) -> bool {
        matches!(self.kind, Kind::Name(_)) && self.extra.is_none() && !self.tuple
    }

    /// The steps of a path that consists of bare names.
    #[inline]
    pub(crate) fn bare_path(&self) -> Option<&[NodeId]> {
        match &self.kind {
            Kind::Path { steps, keep_singleton: false, names }
                if *names == steps.len() && self.extra.is_none() && !self.tuple =>
            {
                Some(steps)
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Path {
        steps: Vec<NodeId>,
        keep_singleton: bool,
        /// How many steps it begins with are names and nothing else.
        names: usize,
    },
    Name(Box<[u8]>),
    String(Box<[u8]>),
    Number(f64),
    Bool(bool),
    Null,
    Regex(Box<Regex>),
    Wildcard,
    Descendant,
    Parent {
        slot: usize,
        name: Name,
    },
    Variable(Name),
    Placeholder,
    Binary {
        op: Op,
        lhs: NodeId,
        rhs: NodeId,
    },
    Negate(NodeId),
    Array(Box<[NodeId]>),
    Object(Group),
    Sort(Box<[(bool, NodeId)]>),
    Bind {
        name: Name,
        rhs: NodeId,
    },
    Apply {
        lhs: NodeId,
        rhs: NodeId,
    },
    Call {
        procedure: NodeId,
        arguments: Box<[NodeId]>,
    },
    Partial {
        procedure: NodeId,
        arguments: Box<[NodeId]>,
    },
    Lambda {
        parameters: Box<[Name]>,
        signature: Option<Signature>,
        body: NodeId,
    },
    /// A call in tail position: evaluated by the caller's loop.
    TailCall(NodeId),
    Condition {
        condition: NodeId,
        then: NodeId,
        otherwise: Option<NodeId>,
    },
    Default {
        lhs: NodeId,
        rhs: NodeId,
        coalesce: bool,
    },
    Transform {
        pattern: NodeId,
        update: NodeId,
        delete: Option<NodeId>,
    },
    Block(Box<[NodeId]>),
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    pub(crate) source: Box<str>,
    pub(crate) host: Host,
}

/// A node together with the table that its children are in.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    pub(crate) code: &'a Code,
    pub(crate) node: &'a Node,
}

impl<'a> NodeRef<'a> {
    pub(crate) fn root(code: &'a Code) -> Self {
        Self { code, node: &code.nodes[code.root as usize] }
    }

    /// Its place in its table.
    #[inline]
    pub(crate) fn id(self) -> NodeId {
        let from = std::ptr::from_ref(self.node).addr() - self.code.nodes.as_ptr().addr();
        (from / std::mem::size_of::<Node>()) as NodeId
    }

    #[inline]
    pub(crate) fn at(self, id: NodeId) -> Self {
        Self { code: self.code, node: &self.code.nodes[id as usize] }
    }
}

impl<'a> Deref for NodeRef<'a> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}
