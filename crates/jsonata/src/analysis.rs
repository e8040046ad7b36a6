//! What can be said of a program without running it. Invariant: it errs on the safe side. What
//! [`Reads`] leaves out has no influence on any result, and a variable that is not listed is
//! bound before it is read.
//!
//! Fields are found by running the program on places instead of values: a place stands for all
//! values that a path of field names leads to. A value that leaves the program, or goes where its
//! way can't be followed (an operator, an argument), is taken to be read as a whole.

mod calls;
mod places;
mod scopes;

pub(crate) use calls::check_host_calls;
pub(crate) use places::reads;
pub(crate) use scopes::variables;

/// What a program reads of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// It may read anything.
    Everything,
    /// It reads what these paths of field names lead to, as a whole, and on the way there only
    /// how arrays and objects are nested. An input from whose objects all other fields are
    /// removed gives the same result. Arrays do not show: `items.price` is the price of every
    /// item. Sorted, none is the beginning of another, and none at all if the result does not
    /// depend on the input.
    Fields(Vec<Vec<String>>),
}
