//! Prints all operations that have a typed call, one per line. `cargo xtask api-coverage` compares
//! them with the operations of the server.

#![allow(clippy::print_stdout, reason = "the list is for the terminal")]

fn main() {
    for operation in oh_protocol::calls::operations() {
        println!("{} {}", operation.method, operation.route);
    }
}
