//! Tests of the administration against the fake server.

#[cfg(test)]
mod keys;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod settings;
