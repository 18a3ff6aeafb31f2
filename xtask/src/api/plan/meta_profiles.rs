//! Meta-profiles.

use crate::api::terms::{Call, Handle, Kind, Module, Output, Type, field, method};

pub(super) const MODULE: Module = Module {
    name: "meta_profiles",
    docs: "Meta-profiles: rules by which a model chooses the model profile for a task. Servers \
           before 1.50 do not have them.",
    handle: Handle {
        name: "MetaProfiles",
        method: "meta_profiles",
        docs: "The meta-profiles of a server",
        returns: "Returns the meta-profiles: rules that choose a model for a task.",
    },
    calls: &[
        Call {
            operation: "GET /api/meta-profiles",
            name: "ListMetaProfiles",
            docs: "returns a summary of each meta-profile.",
            new: "",
            never: None,
            fields: &[],
            output: Output::Whole,
            method: method(
                "list",
                "list the meta-profiles",
                "Returns a summary of each meta-profile, and which one is active ({op}).",
            ),
        },
        Call {
            operation: "GET /api/meta-profiles/{name}",
            name: "GetMetaProfile",
            docs: "returns a meta-profile.",
            new: "Creates a call for the meta-profile with this name.",
            never: None,
            fields: &[field("name", "the name of the meta-profile")],
            output: Output::Part("config"),
            method: method(
                "get",
                "read the meta-profile",
                "Returns a meta-profile ({op}).",
            )
            .errors("Returns [`NotFound`](crate::ErrorKind::NotFound) if it does not exist."),
        },
        Call {
            operation: "POST /api/meta-profiles/{name}",
            name: "SaveMetaProfile",
            docs: "stores a meta-profile, or replaces the meta-profile with this name. Returns \
                   409 if the server has as many as it allows.",
            new: "Creates a call that stores this meta-profile. A name starts with a letter or a \
                  digit, and has at most 64 letters, digits, dots, hyphens and underscores.",
            never: None,
            fields: &[field("name", "the name of the meta-profile")],
            output: Output::Done,
            method: method(
                "save",
                "save the meta-profile",
                "Stores a meta-profile, or replaces the meta-profile with this name ({op}). The \
                 model profiles that it names need not exist yet.",
            )
            .errors(
                "Returns [`Validation`](crate::ErrorKind::Validation) if the server rejects the \
                 name or a field, and [`Conflict`](crate::ErrorKind::Conflict) if the server has \
                 as many meta-profiles as it allows.",
            ),
        },
        Call {
            operation: "POST /api/meta-profiles/{name}/activate",
            name: "ActivateMetaProfile",
            docs: "makes a meta-profile the active one.",
            new: "Creates a call for the meta-profile with this name.",
            never: None,
            fields: &[field("name", "the name of the meta-profile")],
            output: Output::Whole,
            method: method(
                "activate",
                "activate the meta-profile",
                "Makes a meta-profile the active one ({op}). Conversations that start with the \
                 settings use it. Agents with a profile use the meta-profile that the profile \
                 names.",
            )
            .errors("Returns [`NotFound`](crate::ErrorKind::NotFound) if it does not exist."),
        },
        Call {
            operation: "DELETE /api/meta-profiles/{name}",
            name: "DeleteMetaProfile",
            docs: "deletes a meta-profile, if it exists.",
            new: "Creates a call for the meta-profile with this name.",
            never: None,
            fields: &[field("name", "the name of the meta-profile")],
            output: Output::Done,
            method: method(
                "delete",
                "delete the meta-profile",
                "Deletes a meta-profile, if it exists ({op}).",
            ),
        },
    ],
    types: &[
        Type {
            schema: "MetaProfileListResponse",
            name: "MetaProfileList",
            docs: "The meta-profiles of a server.",
            new: None,
            fields: &[
                field("meta_profiles", "A summary of each meta-profile."),
                field(
                    "active_meta_profile",
                    "The name of the active meta-profile.",
                ),
            ],
        },
        Type {
            schema: "MetaProfileInfo",
            name: "MetaProfileInfo",
            docs: "A summary of a meta-profile.",
            new: None,
            fields: &[
                field("name", "The name."),
                field(
                    "classifier_model",
                    "The name of the model profile that classifies tasks.",
                ),
                field("num_classes", "The number of classes."),
            ],
        },
        Type {
            schema: "MetaProfile",
            name: "MetaProfile",
            docs: "Rules by which a model chooses the model profile for a task.",
            new: Some(
                "Creates a meta-profile without classes. The model profile with this name \
                 classifies tasks.",
            ),
            fields: &[
                field(
                    "classifier_model",
                    "The name of the model profile that classifies tasks.",
                ),
                field("classes", "The classes of tasks, in order."),
                field(
                    "prompt_template",
                    "The prompt that makes the classifier choose a model directly, instead of a \
                     class.",
                ),
                field(
                    "model_table",
                    "The text that replaces `{{ model_table }}` in the prompt.",
                ),
            ],
        },
        Type {
            schema: "MetaProfileClass",
            name: "MetaProfileClass",
            docs: "A class of tasks, and the model profile for it.",
            new: Some(
                "Creates a class with this description, for the model profile with this name.",
            ),
            fields: &[
                field(
                    "description",
                    "The description of the tasks, for the classifier.",
                ),
                field("model", "The name of the model profile."),
            ],
        },
        Type {
            schema: "ActivateMetaProfileResponse",
            name: "ActivatedMetaProfile",
            docs: "The result of the activation of a meta-profile.",
            new: None,
            fields: &[
                field("name", "The name of the meta-profile."),
                field("message", "The message of the server.").kind(Kind::Omitted),
                field(
                    "applied",
                    "Whether the meta-profile is active now. False if the settings are for an \
                     agent that cannot choose models.",
                ),
            ],
        },
    ],
};
