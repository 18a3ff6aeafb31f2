//! Generates the handles of `oh-admin`.

use super::{
    calls::Made,
    schema::Document,
    terms::{Module, Output},
    text::{MARK, docs, imported},
};
use crate::Result;

/// Returns the code of a module of `oh-admin`.
pub(super) fn module(module: &'static Module, document: &Document) -> Result<String> {
    let handle = &module.handle;
    let (name, returns) = (handle.name, handle.method);
    let path = module.name;
    let made: Result<Vec<_>> = module
        .calls
        .iter()
        .map(|call| Made::new(call, module, document))
        .collect();
    let made = made?;
    let mut names: Vec<String> = made.iter().map(|it| it.call.name.to_owned()).collect();
    for kind in module.types {
        let name = kind.name;
        // `Vec<Plugin>` and `plugin: Plugin` are words that end with the name.
        let is_used = |text: &str| {
            let mut words = text.split(|c: char| !c.is_alphanumeric());
            words.any(|word| word == name)
        };
        let used = |it: &Made| {
            is_used(it.output())
                || !it.has_setters()
                    && it
                        .members
                        .iter()
                        .any(|member| member.is_optional() || is_used(&member.parameter(module).0))
        };
        if made.iter().any(used) {
            names.push(name.to_owned());
        }
    }
    let mut code = format!(
        "use oh_protocol::calls::{path}::{{{}}};\n\nuse crate::{{Admin, Request}};\n\n",
        names.join(", ")
    );
    let text = format!("{}: see [`Admin::{returns}`].", handle.docs);
    code.push_str(&docs("///", &text));
    code.push_str(&format!(
        "#[derive(Debug, Clone)]\npub struct {name} {{ admin: Admin }}\n\nimpl Admin {{\n{}\
         pub fn {returns}(&self) -> {name} {{ {name} {{ admin: self.clone() }} }}\n}}\n\n\
         impl {name} {{\n",
        docs("///", handle.returns)
    ));
    for made in &made {
        code.push_str(&method(made, module));
    }
    code.push_str("}\n");
    let code = imported(&code);
    let (head, mark) = (docs("//!", module.docs), MARK);
    Ok(format!("{head}\n{mark}\n{code}"))
}

fn method(made: &Made, module: &Module) -> String {
    let (call, method) = (made.call, &made.call.method);
    let operation = format!("`{}`", call.operation);
    let mut text = method.docs.replace("{op}", &operation);
    if method.deletes {
        text.push_str(
            " Returns whether it existed. After a lost response the request is repeated, so the \
             result may be false although this call removed it.",
        );
    }
    text.push_str("\n\n# Errors\n\n");
    let mut invalid = "";
    if !made.members.is_empty() {
        invalid = "Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a \
                   rule or contains the server's mask. ";
    }
    text.push_str(invalid);
    text.push_str(&match (method.errors, invalid) {
        ("", "") => "Returns an error if the request fails.".to_owned(),
        ("", _) => "Returns another error if the request fails.".to_owned(),
        (errors, _) => format!("{errors} Returns another error if the request fails."),
    });
    let (parameters, value) = match made.members.as_slice() {
        [] => (String::new(), format!("{}::default()", call.name)),
        _ if made.has_setters() => (format!("call: {}", call.name), String::new()),
        members => {
            let parameters: Vec<_> = members.iter().map(|it| it.parameter(module).0).collect();
            let names: Vec<_> = members.iter().map(|it| it.name()).collect();
            (
                parameters.join(", "),
                format!("{}::new({})", call.name, names.join(", ")),
            )
        }
    };
    let output = match (&call.output, method.deletes) {
        (Output::Done, true) => "bool",
        _ => made.output(),
    };
    let what = method.what;
    let made = match value.as_str() {
        "" => String::new(),
        value => format!("let call = {value};\n"),
    };
    let sent = match (method.deletes, method.limit) {
        (true, _) => format!("self.admin.delete({what:?}, call)"),
        (false, None) => format!("self.admin.send({what:?}, call)"),
        (false, Some(seconds)) => format!(
            "let limit = std::time::Duration::from_secs({seconds});\n\
             self.admin.send_within(Some(limit), {what:?}, call)"
        ),
    };
    format!(
        "{}pub fn {}(&self, {parameters}) -> Request<{output}> {{ {made}{sent} }}\n\n",
        docs("///", &text),
        method.name
    )
}
