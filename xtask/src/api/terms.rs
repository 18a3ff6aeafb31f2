//! The terms of the plan: modules, calls, types, fields.

/// A module of calls in `oh-protocol`, and the handle for it in `oh-admin`.
pub(super) struct Module {
    /// The name of both modules.
    pub(super) name: &'static str,
    /// The first sentences of the documentation of the calls.
    pub(super) docs: &'static str,
    pub(super) calls: &'static [Call],
    pub(super) types: &'static [Type],
    pub(super) handle: Handle,
}

/// The type of a handle.
pub(super) struct Handle {
    pub(super) name: &'static str,
    /// The method of `Admin` that returns the handle.
    pub(super) method: &'static str,
    /// The documentation of the type, such as "The plugins of a server".
    pub(super) docs: &'static str,
    /// The documentation of the method of `Admin`.
    pub(super) returns: &'static str,
}

/// An operation.
pub(super) struct Call {
    /// The method and the route, as in the document.
    pub(super) operation: &'static str,
    /// The name of the type.
    pub(super) name: &'static str,
    /// The documentation of the operation, with a verb first.
    pub(super) docs: &'static str,
    /// The documentation of the constructor. Empty if the call has no fields.
    pub(super) new: &'static str,
    /// Why the request must not be repeated. `None` if it may be.
    pub(super) never: Option<&'static str>,
    /// The parameters and the fields of the body. All fields must be here.
    pub(super) fields: &'static [Field],
    pub(super) output: Output,
    pub(super) method: Method,
}

/// The result of a call.
pub(super) enum Output {
    /// Nothing: the response only has a message.
    Done,
    /// The response.
    Whole,
    /// The field of the response with this name.
    Part(&'static str),
}

/// The method of a handle that sends a call.
pub(super) struct Method {
    pub(super) name: &'static str,
    /// Completes "cannot …".
    pub(super) what: &'static str,
    /// The documentation, without the operation. `{op}` is replaced by the operation.
    pub(super) docs: &'static str,
    /// The documentation of errors other than a failed request.
    pub(super) errors: &'static str,
    /// Whether the call deletes something, and the method returns whether it existed.
    pub(super) deletes: bool,
    /// The time limit in seconds, if it differs from the client's.
    pub(super) limit: Option<u32>,
}

/// A type in the body of a request or of a response.
pub(super) struct Type {
    /// The name in the document.
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) docs: &'static str,
    /// The documentation of the constructor, if programs can create the type.
    pub(super) new: Option<&'static str>,
    pub(super) fields: &'static [Field],
}

/// A field.
pub(super) struct Field {
    /// The name in JSON.
    pub(super) json: &'static str,
    /// The name in Rust.
    pub(super) name: &'static str,
    /// The documentation, such as "The name." In a request, that of the setter. For a parameter in
    /// the path, its name in errors.
    pub(super) docs: &'static str,
    pub(super) kind: Kind,
}

/// How a field is represented.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the document says. Other JSON than strings, numbers and lists is never shown.
    Plain,
    /// As the document says, but shown without its user, password and query.
    Address,
    /// A duration, sent in whole seconds.
    Seconds,
    /// A type of `oh-protocol`.
    Is(&'static str),
    /// A map of a type of `oh-protocol` that may contain secrets, with a method that adds an entry.
    Entries(&'static str),
    /// Not supported, because another field has the same content.
    Omitted,
}

/// Creates a field that is as the document says, and has the same name.
pub(super) const fn field(json: &'static str, docs: &'static str) -> Field {
    Field {
        json,
        name: json,
        docs,
        kind: Kind::Plain,
    }
}

impl Field {
    pub(super) const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

/// Creates a method with nothing special.
pub(super) const fn method(name: &'static str, what: &'static str, docs: &'static str) -> Method {
    Method {
        name,
        what,
        docs,
        errors: "",
        deletes: false,
        limit: None,
    }
}

impl Method {
    pub(super) const fn errors(mut self, errors: &'static str) -> Self {
        self.errors = errors;
        self
    }

    pub(super) const fn deletes(mut self) -> Self {
        self.deletes = true;
        self
    }

    pub(super) const fn limit(mut self, seconds: u32) -> Self {
        self.limit = Some(seconds);
        self
    }
}
