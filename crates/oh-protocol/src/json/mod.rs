//! JSON as the server sends it: scanned in one pass, decoded on demand, with shared bytes.
//!
//! [`scan`] locates values and checks every byte. [`text`] contains the strings and values that
//! share those bytes. [`wire`] decodes types, [`declare`] and [`open_enum`] declare them.

pub(crate) mod declare;
pub(crate) mod open_enum;
pub(crate) mod scan;
pub(crate) mod text;
pub(crate) mod untyped;
pub(crate) mod whole;
pub(crate) mod wire;
