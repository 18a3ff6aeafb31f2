//! Saved workspaces.

use crate::api::terms::{Call, Handle, Module, Output, Type, field, method};

pub(super) const MODULE: Module = Module {
    name: "workspaces",
    docs: "Saved workspaces: directories that user interfaces offer to the user. The server only \
           stores them; conversations can use any directory.",
    handle: Handle {
        name: "SavedWorkspaces",
        method: "workspaces",
        docs: "The saved workspaces of a server",
        returns: "Returns the saved workspaces: directories that user interfaces offer.",
    },
    calls: &[
        Call {
            operation: "GET /api/workspaces",
            name: "ListWorkspaces",
            docs: "returns the saved workspaces and parents.",
            new: "",
            never: None,
            fields: &[],
            output: Output::Whole,
            method: method(
                "list",
                "list the saved workspaces",
                "Returns the saved workspaces and parents ({op}).",
            ),
        },
        Call {
            operation: "POST /api/workspaces",
            name: "AddWorkspaces",
            docs: "saves workspaces. Paths that are saved already keep their entries.",
            new: "Creates a call that saves these workspaces.",
            never: None,
            fields: &[field("workspaces", "The workspaces.")],
            output: Output::Whole,
            method: method(
                "add",
                "save the workspaces",
                "Saves workspaces, and returns all ({op}). Paths that are saved already keep their \
                 entries.",
            )
            .errors(
                "Returns [`Validation`](crate::ErrorKind::Validation) if an id, name or path is \
                 empty or too long.",
            ),
        },
        Call {
            operation: "DELETE /api/workspaces",
            name: "RemoveWorkspace",
            docs: "removes a workspace from the list. A repeated request returns 404.",
            new: "Creates a call for the workspace with this path.",
            never: None,
            fields: &[field("path", "The path.")],
            output: Output::Done,
            method: method(
                "remove",
                "remove the saved workspace",
                "Removes a workspace from the list ({op}). Does not touch the directory.",
            )
            .deletes(),
        },
        Call {
            operation: "POST /api/workspaces/parents",
            name: "AddWorkspaceParents",
            docs: "saves parents. Paths that are saved already keep their entries.",
            new: "Creates a call that saves these parents.",
            never: None,
            fields: &[field("parents", "The parents.")],
            output: Output::Whole,
            method: method(
                "add_parents",
                "save the parents of workspaces",
                "Saves parents, and returns all ({op}). Paths that are saved already keep their \
                 entries.",
            )
            .errors(
                "Returns [`Validation`](crate::ErrorKind::Validation) if an id, name or path is \
                 empty or too long.",
            ),
        },
        Call {
            operation: "DELETE /api/workspaces/parents",
            name: "RemoveWorkspaceParent",
            docs: "removes a parent from the list. A repeated request returns 404.",
            new: "Creates a call for the parent with this path.",
            never: None,
            fields: &[field("path", "The path.")],
            output: Output::Done,
            method: method(
                "remove_parent",
                "remove the parent of workspaces",
                "Removes a parent from the list ({op}). Does not touch the directory.",
            )
            .deletes(),
        },
    ],
    types: &[
        Type {
            schema: "WorkspacesListResponse",
            name: "WorkspaceList",
            docs: "The saved workspaces of a server.",
            new: None,
            fields: &[
                field("workspaces", "The workspaces."),
                field(
                    "workspaceParents",
                    "The parents: directories whose subdirectories are workspaces.",
                )
                .named("parents"),
            ],
        },
        Type {
            schema: "WorkspaceItem",
            name: "SavedWorkspace",
            docs: "A saved workspace.",
            new: Some(
                "Creates a workspace with this id, name for users, and absolute path on the \
                 server.",
            ),
            fields: &[
                field("id", "The id, which the program chooses."),
                field("name", "The name for users."),
                field("path", "The absolute path on the server."),
                field(
                    "parentPath",
                    "The path of the parent that contains the workspace.",
                )
                .named("parent_path"),
            ],
        },
        Type {
            schema: "WorkspaceParentItem",
            name: "WorkspaceParent",
            docs: "A directory whose subdirectories are workspaces.",
            new: Some(
                "Creates a parent with this id, name for users, and absolute path on the server.",
            ),
            fields: &[
                field("id", "The id, which the program chooses."),
                field("name", "The name for users."),
                field("path", "The absolute path on the server."),
            ],
        },
    ],
};
