//! Encoding of fields: big-endian numbers, and texts and bytes after their length.
//!
//! The macros declare types together with their encoding: a struct is its fields in order, an enum
//! a tag and the fields of its variant, and a message a frame. A field with a cap in brackets is a
//! text, a list or a size that must not exceed it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{TreePath, WireError, limits};

/// A value that can be part of a payload.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, to: &mut Encoder<'_>);

    /// Decodes the value and advances the decoder.
    ///
    /// # Errors
    /// The defect of the bytes.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError>;
}

/// A value whose length or size is limited by the field that holds it. `C` is the limit's type.
pub trait Capped<C>: Sized {
    /// Appends the value. A text is truncated to the cap.
    fn encode_capped(&self, to: &mut Encoder<'_>, cap: C);

    /// Decodes the value of the field `what`.
    ///
    /// # Errors
    /// [`WireError::OverCap`] if it exceeds the cap, or the defect of the bytes.
    fn decode_capped(from: &mut Decoder<'_>, what: &'static str, cap: C)
    -> Result<Self, WireError>;
}

/// The cap of a list without a limit, in our own files. Its count has eight bytes.
#[derive(Debug, Clone, Copy)]
pub struct Uncapped;

/// Checks a length, a count or a size.
pub(crate) fn check_cap(
    what: &'static str,
    len: impl TryInto<u64>,
    cap: impl TryInto<u64>,
) -> Result<(), WireError> {
    let (len, cap) = (len.try_into().unwrap_or(u64::MAX), cap.try_into().unwrap_or(u64::MAX));
    if len > cap { Err(WireError::OverCap { what, len, cap }) } else { Ok(()) }
}

/// Implements what all numbers share: the two traits, and the methods of decoder and encoder.
macro_rules! numbers {
    ($($(#[$doc:meta])* $number:ident)*) => {
        $(
            impl Wire for $number {
                fn encode(&self, to: &mut Encoder<'_>) {
                    to.$number(*self);
                }

                fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
                    from.$number()
                }
            }

            impl Capped<Self> for $number {
                fn encode_capped(&self, to: &mut Encoder<'_>, _: Self) {
                    to.$number(*self);
                }

                fn decode_capped(
                    from: &mut Decoder<'_>,
                    what: &'static str,
                    cap: Self,
                ) -> Result<Self, WireError> {
                    let value = from.$number()?;
                    check_cap(what, value, cap)?;
                    Ok(value)
                }
            }
        )*

        impl Decoder<'_> {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`WireError::Short`].
                pub fn $number(&mut self) -> Result<$number, WireError> {
                    self.array().map($number::from_be_bytes)
                }
            )*
        }

        impl Encoder<'_> {
            $(
                $(#[$doc])*
                pub fn $number(&mut self, number: $number) -> &mut Self {
                    self.bytes(&number.to_be_bytes())
                }
            )*
        }
    };
}

numbers! {
    /// A number of one byte.
    u8
    /// A number of two bytes.
    u16
    /// A number of four bytes.
    u32
    /// A number of eight bytes.
    u64
    /// A number of eight bytes, two's complement.
    i64
}

impl Wire for bool {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.bool(*self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.bool()
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.bytes(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.array()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.option(self.as_ref(), T::encode);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.option()
    }
}

macro_rules! wire_tuples {
    ($(($($part:ident $at:tt),*))*) => {$(
        impl<$($part: Wire),*> Wire for ($($part,)*) {
            fn encode(&self, to: &mut Encoder<'_>) {
                $(self.$at.encode(to);)*
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
                Ok(($($part::decode(from)?,)*))
            }
        }
    )*};
}

wire_tuples!((A 0, B 1) (A 0, B 1, C 2));

impl Wire for TreePath {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.path(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.path()
    }
}

impl Wire for SocketAddr {
    fn encode(&self, to: &mut Encoder<'_>) {
        match self.ip() {
            IpAddr::V4(ip) => to.u8(4).bytes(&ip.octets()),
            IpAddr::V6(ip) => to.u8(6).bytes(&ip.octets()),
        }
        .u16(self.port());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let ip: IpAddr = match from.u8()? {
            4 => Ipv4Addr::from(from.array::<4>()?).into(),
            6 => Ipv6Addr::from(from.array::<16>()?).into(),
            other => {
                return Err(WireError::BadValue { what: "address family", value: other.into() });
            }
        };
        Ok(Self::new(ip, from.u16()?))
    }
}

impl Capped<usize> for String {
    fn encode_capped(&self, to: &mut Encoder<'_>, cap: usize) {
        to.short_text(&self[..self.floor_char_boundary(cap)]);
    }

    fn decode_capped(
        from: &mut Decoder<'_>,
        what: &'static str,
        cap: usize,
    ) -> Result<Self, WireError> {
        from.short_text(what, cap).map(str::to_owned)
    }
}

impl<T: Wire> Capped<usize> for Vec<T> {
    fn encode_capped(&self, to: &mut Encoder<'_>, _: usize) {
        to.list(self, T::encode);
    }

    fn decode_capped(
        from: &mut Decoder<'_>,
        what: &'static str,
        cap: usize,
    ) -> Result<Self, WireError> {
        from.list(what, cap)
    }
}

impl<T: Wire> Capped<Uncapped> for Vec<T> {
    fn encode_capped(&self, to: &mut Encoder<'_>, _: Uncapped) {
        to.all(self.iter(), T::encode);
    }

    fn decode_capped(
        from: &mut Decoder<'_>,
        _: &'static str,
        _: Uncapped,
    ) -> Result<Self, WireError> {
        // Memory grows with the values, not with the count.
        let mut values = Self::new();
        for _ in 0..from.u64()? {
            values.push(T::decode(from)?);
        }
        Ok(values)
    }
}

impl<C, T: Capped<C>> Capped<C> for Option<T> {
    fn encode_capped(&self, to: &mut Encoder<'_>, cap: C) {
        to.option(self.as_ref(), |value, to| value.encode_capped(to, cap));
    }

    fn decode_capped(
        from: &mut Decoder<'_>,
        what: &'static str,
        cap: C,
    ) -> Result<Self, WireError> {
        if from.bool()? { T::decode_capped(from, what, cap).map(Some) } else { Ok(None) }
    }
}

/// Encodes one field.
#[macro_export]
macro_rules! encode_field {
    ($value:expr, $to:ident) => {
        $crate::Wire::encode($value, $to)
    };
    ($value:expr, $to:ident, $cap:expr) => {
        $crate::Capped::encode_capped($value, $to, $cap)
    };
}

/// Decodes one field.
#[macro_export]
macro_rules! decode_field {
    ($from:ident, $name:ident) => {
        $crate::Wire::decode($from)?
    };
    ($from:ident, $name:ident, $cap:expr) => {
        $crate::Capped::decode_capped($from, stringify!($name), $cap)?
    };
}

/// The first of several tokens.
#[macro_export]
macro_rules! first {
    ($first:ident $($rest:tt)*) => {
        $first
    };
}

/// Declares structs. A function after the name checks the decoded value.
///
/// A struct may end in optional fields, each with a tag. A decoder skips tags that it does not
/// know.
#[macro_export]
macro_rules! wire_struct {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(: $check:ident)? {
            $($(#[$fmeta:meta])* pub $field:ident: $ty:ty $([$cap:expr])?,)*
            $(optional {
                $($(#[$ometa:meta])* $tag:literal => pub $ofield:ident: Option<$oty:ty>,)*
            })?
        }
    )*) => {$(
        $(#[$meta])*
        pub struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
            $($($(#[$ometa])* pub $ofield: Option<$oty>,)*)?
        }

        impl $crate::Wire for $name {
            fn encode(&self, to: &mut $crate::Encoder<'_>) {
                $($crate::encode_field!(&self.$field, to $(, $cap)?);)*
                $(to.with_length(|_to| {
                    $(_to.optional_field($tag, self.$ofield.as_ref());)*
                });)?
            }

            fn decode(from: &mut $crate::Decoder<'_>) -> Result<Self, $crate::WireError> {
                $(let $field = $crate::decode_field!(from, $field $(, $cap)?);)*
                $(
                    $(let mut $ofield = None;)*
                    from.optional_fields(|tag, value| {
                        $(if tag == $tag {
                            $ofield = Some(<$oty as $crate::Wire>::decode(value)?);
                            return Ok(());
                        })*
                        let _unknown = (tag, value.rest());
                        Ok(())
                    })?;
                )?
                let value = Self { $($field,)* $($($ofield,)*)? };
                $($check(&value)?;)?
                Ok(value)
            }
        }
    )*};
}

/// Declares enums with a tag of one byte before the fields of the variant.
#[macro_export]
macro_rules! wire_enum {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident: $what:literal {
            $(
                $(#[$vmeta:meta])*
                $tag:literal => $variant:ident
                    $(($inner:ty $([$icap:expr])?))?
                    $({ $($(#[$fmeta:meta])* $field:ident: $ty:ty $([$cap:expr])?),* $(,)? })?,
            )*
        }
    )*) => {$(
        $(#[$meta])*
        pub enum $name {
            $($(#[$vmeta])* $variant $(($inner))? $({ $($(#[$fmeta])* $field: $ty),* })?,)*
        }

        impl $crate::Wire for $name {
            fn encode(&self, to: &mut $crate::Encoder<'_>) {
                match self {
                    $(Self::$variant $(($crate::first!(value $inner)))? $({ $($field),* })? => {
                        to.u8($tag);
                        $($crate::encode_field!(value, to $(, $icap)?);)?
                        $($($crate::encode_field!($field, to $(, $cap)?);)*)?
                    })*
                }
            }

            fn decode(from: &mut $crate::Decoder<'_>) -> Result<Self, $crate::WireError> {
                Ok(match from.u8()? {
                    $($tag => Self::$variant
                        $(($crate::decode_field!(from, $variant $(, $icap)?)))?
                        $({ $($field: $crate::decode_field!(from, $field $(, $cap)?)),* })?,)*
                    other => {
                        let value = other.into();
                        return Err($crate::WireError::BadValue { what: $what, value });
                    }
                })
            }
        }
    )*};
}

/// Declares messages. Each variant has the name of its frame's type. A function after the name
/// checks the decoded message.
macro_rules! wire_messages {
    (
        $(#[$meta:meta])*
        pub enum $name:ident $(: $check:ident)? {
            $(
                $(#[$vmeta:meta])*
                $variant:ident
                    $(($inner:ty $([$icap:expr])?))?
                    $({ $($(#[$fmeta:meta])* $field:ident: $ty:ty $([$cap:expr])?),* $(,)? })?,
            )*
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$vmeta])* $variant $(($inner))? $({ $($(#[$fmeta])* $field: $ty),* })?,)*
        }

        impl $name {
            /// Returns the type of the message's frame.
            #[must_use]
            pub fn frame_type(&self) -> $crate::FrameType {
                match self {
                    $(Self::$variant { .. } => $crate::FrameType::$variant,)*
                }
            }

            /// Appends the whole frame.
            pub fn encode(&self, to: &mut Vec<u8>) {
                $crate::encode_frame(to, self.frame_type(), |to| {
                    let to = &mut $crate::Encoder::new(to);
                    match self {
                        $(Self::$variant $(($crate::first!(value $inner)))? $({ $($field),* })? => {
                            $($crate::encode_field!(value, to $(, $icap)?);)?
                            $($($crate::encode_field!($field, to $(, $cap)?);)*)?
                        })*
                    }
                });
            }

            /// Decodes the payload of a frame of type `kind`.
            ///
            /// # Errors
            /// [`WireError::Unexpected`](crate::WireError::Unexpected) if `kind` belongs to
            /// another kind of message, or the defect of the payload.
            pub fn decode(
                kind: $crate::FrameType,
                payload: &[u8],
            ) -> Result<Self, $crate::WireError> {
                let mut decoder = $crate::Decoder::new(payload);
                let from = &mut decoder;
                let message = match kind {
                    $($crate::FrameType::$variant => Self::$variant
                        $(($crate::decode_field!(from, $variant $(, $icap)?)))?
                        $({ $($field: $crate::decode_field!(from, $field $(, $cap)?)),* })?,)*
                    other => return Err($crate::WireError::Unexpected(other.number())),
                };
                decoder.finish()?;
                $($check(&message)?;)?
                Ok(message)
            }
        }
    };
}

/// Implements `Wire` for tuple structs of one field.
#[macro_export]
macro_rules! wire_newtypes {
    ($($name:ident)*) => {$(
        impl $crate::Wire for $name {
            fn encode(&self, to: &mut $crate::Encoder<'_>) {
                self.0.encode(to);
            }

            fn decode(from: &mut $crate::Decoder<'_>) -> Result<Self, $crate::WireError> {
                $crate::Wire::decode(from).map(Self)
            }
        }
    )*};
}

pub(crate) use wire_messages;

/// Decodes the fields of one frame's payload in order.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the beginning of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// Takes the next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] if fewer remain.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads one byte that is 0 or 1.
    ///
    /// # Errors
    /// [`WireError::Short`], or [`WireError::BadValue`] for another byte.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::BadValue { what: "flag", value: other.into() }),
        }
    }

    /// Reads a flag, and the value if the flag is 1.
    ///
    /// # Errors
    /// Errors of the flag and of the value.
    pub fn option<T: Wire>(&mut self) -> Result<Option<T>, WireError> {
        if self.bool()? { T::decode(self).map(Some) } else { Ok(None) }
    }

    /// Reads a length of two bytes, at most `cap`, and as many bytes.
    ///
    /// # Errors
    /// [`WireError::OverCap`] or [`WireError::Short`].
    pub fn short_bytes(&mut self, what: &'static str, cap: usize) -> Result<&'a [u8], WireError> {
        let len = usize::from(self.u16()?);
        check_cap(what, len, cap)?;
        self.take(len)
    }

    /// Reads bytes like [`Self::short_bytes`] that must be UTF-8.
    ///
    /// # Errors
    /// [`WireError::OverCap`], [`WireError::Short`] or [`WireError::NotUtf8`].
    pub fn short_text(&mut self, what: &'static str, cap: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.short_bytes(what, cap)?).map_err(|_| WireError::NotUtf8(what))
    }

    /// Reads and checks a path.
    ///
    /// # Errors
    /// Errors of a short text, or [`WireError::Name`].
    pub fn path(&mut self) -> Result<TreePath, WireError> {
        Ok(TreePath::new(self.short_text("path", limits::PATH)?)?)
    }

    /// Reads a count of at most `cap` in two bytes, and as many values.
    ///
    /// # Errors
    /// [`WireError::OverCap`], or the errors of a value.
    pub fn list<T: Wire>(&mut self, what: &'static str, cap: usize) -> Result<Vec<T>, WireError> {
        let count = self.u16()?;
        check_cap(what, count, cap)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(T::decode(self)?);
        }
        Ok(values)
    }

    /// Reads optional fields. `field` gets each tag and a decoder of its value.
    ///
    /// # Errors
    /// [`WireError::Short`] or [`WireError::Trailing`] for a wrong length,
    /// [`WireError::BadValue`] for tags that do not ascend, or the errors of a value.
    pub(crate) fn optional_fields(
        &mut self,
        mut field: impl FnMut(u8, &mut Decoder<'_>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut fields = Decoder::new(self.short_bytes("optional fields", usize::MAX)?);
        let mut last = None;
        while !fields.is_empty() {
            let tag = fields.u8()?;
            if last.replace(tag).is_some_and(|last| last >= tag) {
                let what = "tag of an optional field";
                return Err(WireError::BadValue { what, value: tag.into() });
            }
            let mut value = Decoder::new(fields.short_bytes("optional field", usize::MAX)?);
            field(tag, &mut value)?;
            value.finish()?;
        }
        Ok(())
    }

    /// Takes all remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Returns whether all fields are read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that no bytes remain.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}

/// Appends fields to a payload.
///
/// Texts and lists that exceed their length field are truncated. Callers keep to the lower caps of
/// [`limits`].
#[derive(Debug)]
pub struct Encoder<'a> {
    to: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `to`.
    pub fn new(to: &'a mut Vec<u8>) -> Self {
        Self { to }
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.to.extend_from_slice(bytes);
        self
    }

    /// Appends 0 or 1.
    pub fn bool(&mut self, yes: bool) -> &mut Self {
        self.u8(u8::from(yes))
    }

    /// Appends a flag and, where there is a value, the value.
    pub fn option<T>(
        &mut self,
        value: Option<T>,
        encode: impl FnOnce(T, &mut Encoder<'_>),
    ) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            encode(value, self);
        }
        self
    }

    /// Appends two bytes of length and the bytes.
    pub fn short_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(len).bytes(&bytes[..usize::from(len)])
    }

    /// Appends two bytes of length and the text.
    pub fn short_text(&mut self, text: &str) -> &mut Self {
        self.short_bytes(&text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))])
    }

    /// Appends two bytes of length and what `fill` appends.
    pub(crate) fn with_length(&mut self, fill: impl FnOnce(&mut Encoder<'_>)) {
        let start = self.to.len();
        self.u16(0);
        fill(self);
        let len = u16::try_from(self.to.len() - start - 2).unwrap_or(u16::MAX);
        self.to[start..start + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// Appends an optional field, if it has a value.
    pub(crate) fn optional_field<T: Wire>(&mut self, tag: u8, value: Option<&T>) {
        if let Some(value) = value {
            self.u8(tag).with_length(|to| value.encode(to));
        }
    }

    /// Appends a path.
    pub fn path(&mut self, path: &TreePath) -> &mut Self {
        self.short_text(path.as_str())
    }

    /// Appends a count in two bytes and the values.
    pub fn list<T>(
        &mut self,
        values: &[T],
        mut encode: impl FnMut(&T, &mut Encoder<'_>),
    ) -> &mut Self {
        let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
        self.u16(count);
        for value in &values[..usize::from(count)] {
            encode(value, self);
        }
        self
    }

    /// Appends a count in eight bytes and the values, for files of our own.
    pub fn all<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut encode: impl FnMut(T, &mut Encoder<'_>),
    ) -> &mut Self {
        self.u64(values.len() as u64);
        values.for_each(|value| encode(value, self));
        self
    }
}
