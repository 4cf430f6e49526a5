//! QEMU's side: its process, its protocol, and the cases on it.

mod board;
mod connection;
mod trace;

pub(crate) use board::Board;
pub(crate) use connection::Dead;
