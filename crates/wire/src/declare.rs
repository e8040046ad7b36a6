//! How messages are declared: each in one place, with the versions of its fields. Invariant: reading and writing are
//! generated from the same line, so that they can't disagree.

/// Declares structures of the protocol, and the messages among them.
///
/// `name: Type [versions, null FROM, tag TAG, default VALUE];` where the brackets and each part in them may be left out:
/// absent versions mean all; `null FROM` refuses `None` before that version; a tagged field is written when it differs
/// from its default, in flexible versions only.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $kind:ident $name:ident $(= $key:literal, $first:literal..=$last:literal, flexible $flexible:literal)? {
            $($field:ident : $type:ty $([
                $range:expr $(, null $null:literal)? $(, tag $tag:literal)? $(, default $default:expr)?
            ])? ;)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("Protocol field `", stringify!($field), "`; versions: " $(, stringify!($range))?, ".")]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::codec::default_of!($($($default)?)?),)* }
            }
        }

        #[allow(unused_mut, unused_variables, reason = "structures without tagged or without any fields are declared too")]
        #[allow(clippy::allow_attributes, reason = "which of the lints fires depends on the declaration")]
        impl $crate::codec::Field for $name {
            const SIZE_MIN: usize = 1;

            fn decode(reader: &mut $crate::codec::Reader, ctx: $crate::codec::Context) -> Result<Self, $crate::codec::Error> {
                let mut value = Self::default();
                $(
                    $crate::codec::plain!([$($($tag)?)?] {
                        if $crate::codec::in_range!(ctx.version $(, $range)?) {
                            value.$field = $crate::codec::Field::decode(reader, ctx)
                                .map_err(|e| e.at(concat!(stringify!($name), ".", stringify!($field))))?;
                            $crate::codec::check_null!(value.$field, ctx, concat!(stringify!($name), ".", stringify!($field)) $($(, $null)?)?);
                        }
                    });
                )*
                if ctx.flexible {
                    reader.tagged(|tag, reader| {
                        $(
                            $crate::codec::tagged!([$($($tag)?)?] |number| {
                                if tag == number && $crate::codec::in_range!(ctx.version $(, $range)?) {
                                    value.$field = $crate::codec::Field::decode(reader, ctx)
                                        .map_err(|e| e.at(concat!(stringify!($name), ".", stringify!($field))))?;
                                }
                            });
                        )*
                        Ok(())
                    }).map_err(|e| e.at(stringify!($name)))?;
                }
                Ok(value)
            }

            fn encode(&self, out: &mut bytes::BytesMut, ctx: $crate::codec::Context) -> Result<(), $crate::codec::Error> {
                $(
                    $crate::codec::plain!([$($($tag)?)?] {
                        if $crate::codec::in_range!(ctx.version $(, $range)?) {
                            $crate::codec::check_null!(self.$field, ctx, concat!(stringify!($name), ".", stringify!($field)) $($(, $null)?)?);
                            $crate::codec::Field::encode(&self.$field, out, ctx)
                                .map_err(|e| e.at(concat!(stringify!($name), ".", stringify!($field))))?;
                        }
                    });
                )*
                if ctx.flexible {
                    let mut fields: Vec<(u32, bytes::BytesMut)> = Vec::new();
                    $(
                        $crate::codec::tagged!([$($($tag)?)?] |number| {
                            let default: $type = $crate::codec::default_of!($($($default)?)?);
                            if $crate::codec::in_range!(ctx.version $(, $range)?) && self.$field != default {
                                let mut field = bytes::BytesMut::new();
                                $crate::codec::Field::encode(&self.$field, &mut field, ctx)
                                    .map_err(|e| e.at(concat!(stringify!($name), ".", stringify!($field))))?;
                                fields.push((number, field));
                            }
                        });
                    )*
                    $crate::codec::put_tagged(out, fields);
                }
                Ok(())
            }
        }

        impl $crate::codec::Nullable for $name {
            fn decode_nullable(reader: &mut $crate::codec::Reader, ctx: $crate::codec::Context) -> Result<Option<Self>, $crate::codec::Error> {
                if <i8 as $crate::codec::Field>::decode(reader, ctx)? < 0 {
                    return Ok(None);
                }
                <Self as $crate::codec::Field>::decode(reader, ctx).map(Some)
            }

            fn encode_null(out: &mut bytes::BytesMut, ctx: $crate::codec::Context) -> Result<(), $crate::codec::Error> {
                <i8 as $crate::codec::Field>::encode(&-1, out, ctx)
            }

            fn encode_some(&self, out: &mut bytes::BytesMut, ctx: $crate::codec::Context) -> Result<(), $crate::codec::Error> {
                <i8 as $crate::codec::Field>::encode(&1, out, ctx)?;
                $crate::codec::Field::encode(self, out, ctx)
            }
        }

        $(
            impl $crate::codec::Message for $name {
                const NAME: &'static str = stringify!($name);
                const API_KEY: i16 = $key;
                const VERSIONS: (i16, i16) = ($first, $last);
                const FLEXIBLE_FROM: i16 = $flexible;

                fn read(reader: &mut $crate::codec::Reader, version: i16) -> Result<Self, $crate::codec::Error> {
                    let ctx = <Self as $crate::codec::Message>::context(version)?;
                    <Self as $crate::codec::Field>::decode(reader, ctx)
                }

                fn write(&self, out: &mut bytes::BytesMut, version: i16) -> Result<(), $crate::codec::Error> {
                    let ctx = <Self as $crate::codec::Message>::context(version)?;
                    $crate::codec::Field::encode(self, out, ctx)
                }
            }
        )?
    )*};
}

macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

macro_rules! in_range {
    ($version:expr) => {
        true
    };
    ($version:expr, $range:expr) => {
        std::ops::RangeBounds::contains(&($range), &$version)
    };
}

macro_rules! check_null {
    ($value:expr, $ctx:ident, $field:expr) => {};
    ($value:expr, $ctx:ident, $field:expr, $null:literal) => {
        if $ctx.version < $null && $crate::codec::Field::is_null(&$value) {
            return Err($crate::codec::Error::from($crate::codec::ErrorKind::Null(-1)).at($field));
        }
    };
}

/// Keeps the code of a field that isn't tagged.
macro_rules! plain {
    ([] $body:block) => {
        $body
    };
    ([$tag:literal] $body:block) => {};
}

/// Keeps the code of a tagged field, with its number bound.
macro_rules! tagged {
    ([] |$number:ident| $body:block) => {};
    ([$tag:literal] |$number:ident| $body:block) => {
        let $number: u32 = $tag;
        $body
    };
}

pub(crate) use {check_null, default_of, in_range, messages, plain, tagged};
