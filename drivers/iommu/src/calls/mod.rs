//! The operations, one function each. Arguments have been copied and checked; what is left
//! is what the operation is about. Checks come first, then what can fail, then what is
//! seen.

pub(crate) mod bind;
mod device;
mod fault;
pub(crate) mod invalidate;
mod ioas;
mod linux;
mod managed;
mod page_response;
mod pasid;
mod pasid_table;
mod probe;
mod queue;
mod ring;
