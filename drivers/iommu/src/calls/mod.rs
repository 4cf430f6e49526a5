//! The operations, one function each. Arguments have been copied and checked; what is left
//! is what the operation is about. Checks come first, then what can fail, then what is
//! seen.

mod bind;
mod device;
mod fault;
mod invalidate;
mod ioas;
mod managed;
mod page_response;
mod pasid;
mod probe;
mod queue;
mod ring;
