//! JSON in and out. Input is checked whole before anything is evaluated, onto a flat *tape* of
//! what stands where; values are made from it only where the program looks.

pub(crate) mod decode;
pub(crate) mod scan;
mod stop;
pub(crate) mod write;
