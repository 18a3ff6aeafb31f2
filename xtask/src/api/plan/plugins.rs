//! Plugins.

use crate::api::terms::{Call, Field, Handle, Kind, Module, Output, Type, field, method};

const NAME: Field = field("plugin_name", "the plugin name").named("name");
const SOURCE: Field = field(
    "source",
    "The source: a git URL, `github:owner/repo`, or a directory on the server.",
)
.kind(Kind::Address);
const REF: Field = field("ref", "Sets the branch, tag or commit.").named("git_ref");
const REPO_PATH: Field = field(
    "repo_path",
    "Sets the plugin's directory in the repository.",
);
const NOT_INSTALLED: &str =
    "Returns [`NotFound`](crate::ErrorKind::NotFound) if the plugin is not installed.";

pub(super) const MODULE: Module = Module {
    name: "plugins",
    docs: "Plugins: skills, hooks, MCP servers and commands that are installed together.",
    handle: Handle {
        name: "Plugins",
        method: "plugins",
        docs: "The plugins of a server",
        returns: "Returns the plugins that are installed for the server's user.",
    },
    calls: &[
        Call {
            operation: "POST /api/plugins",
            name: "ListPlugins",
            docs: "returns the plugins that conversations can use.",
            new: "Creates a call for the plugins of the user and of no project.",
            never: None,
            fields: &[
                field(
                    "project_dir",
                    "Sets the directory of the project on the server.",
                ),
                field(
                    "load_project",
                    "Sets whether the plugins of the project are included. Server default: true.",
                ),
                field(
                    "load_user",
                    "Sets whether installed plugins and those in the home directory are included. \
                     Server default: true.",
                ),
            ],
            output: Output::Part("plugins"),
            method: method(
                "list",
                "list the plugins",
                "Returns the plugins that conversations can use: those that are installed and \
                 enabled, and those of the user and of a project ({op}).",
            ),
        },
        Call {
            operation: "POST /api/plugins/fetch",
            name: "FetchPlugin",
            docs: "downloads a plugin without installing it. Servers before 1.57 may not have this \
                   operation.",
            new: "Creates a call that downloads from a git URL or `github:owner/repo`.",
            never: None,
            fields: &[
                SOURCE,
                REF,
                REPO_PATH,
                field(
                    "secrets",
                    "Adds a secret that replaces `${NAME}` in the source and the branch. Replaces \
                     a secret with the same name.",
                )
                .named("secret")
                .kind(Kind::Entries("crate::config::SecretSource")),
                field(
                    "timeout",
                    "Sets the time limit of the download, from 1 s to 10 minutes. Server default: \
                     60 s.",
                )
                .kind(Kind::Seconds),
            ],
            output: Output::Whole,
            method: method(
                "fetch",
                "download the plugin",
                "Downloads a plugin without installing it, and returns its commit and content \
                 ({op}). Waits at most 11 minutes.",
            )
            .errors(
                "Returns [`Validation`](crate::ErrorKind::Validation) if the source is not a \
                 plugin, [`Server`](crate::ErrorKind::Server) if it cannot be downloaded, and \
                 [`Unsupported`](crate::ErrorKind::Unsupported) if the server is too old.",
            )
            .limit(660),
        },
        Call {
            operation: "POST /api/plugins/install",
            name: "InstallPlugin",
            docs: "installs a plugin. Returns 409 if the plugin is already installed and `force` \
                   is not set.",
            new: "Creates a call that installs from a git URL, `github:owner/repo`, or a directory \
                  on the server.",
            never: Some("a second request would find the plugin that the first one has installed"),
            fields: &[
                SOURCE,
                REF,
                REPO_PATH,
                field(
                    "force",
                    "Sets whether an installed plugin with the same name is replaced. Server \
                     default: false.",
                ),
            ],
            output: Output::Whole,
            method: method(
                "install",
                "install the plugin",
                "Installs a plugin ({op}). The request is not repeated after an unclear failure. \
                 Waits at most 5 minutes.",
            )
            .errors(
                "Returns [`Conflict`](crate::ErrorKind::Conflict) if the plugin is already \
                 installed, and [`Validation`](crate::ErrorKind::Validation) if the source cannot \
                 be downloaded or is not a plugin.",
            )
            .limit(300),
        },
        Call {
            operation: "GET /api/plugins/installed",
            name: "ListInstalledPlugins",
            docs: "returns the installed plugins, enabled or not.",
            new: "",
            never: None,
            fields: &[],
            output: Output::Part("plugins"),
            method: method(
                "installed",
                "list the installed plugins",
                "Returns the installed plugins, enabled or not ({op}).",
            ),
        },
        Call {
            operation: "GET /api/plugins/installed/{plugin_name}",
            name: "GetInstalledPlugin",
            docs: "returns an installed plugin.",
            new: "Creates a call for the plugin with this name.",
            never: None,
            fields: &[NAME],
            output: Output::Whole,
            method: method(
                "get",
                "read the installed plugin",
                "Returns an installed plugin ({op}).",
            )
            .errors(NOT_INSTALLED),
        },
        Call {
            operation: "PATCH /api/plugins/installed/{plugin_name}",
            name: "SetPluginEnabled",
            docs: "sets whether conversations can use a plugin.",
            new: "Creates a call for the plugin with this name.",
            never: None,
            fields: &[
                NAME,
                field("enabled", "Whether conversations can use the plugin."),
            ],
            output: Output::Done,
            method: method(
                "set_enabled",
                "enable or disable the plugin",
                "Sets whether conversations can use a plugin ({op}).",
            )
            .errors(NOT_INSTALLED),
        },
        Call {
            operation: "DELETE /api/plugins/installed/{plugin_name}",
            name: "UninstallPlugin",
            docs: "uninstalls a plugin. A repeated request returns 404.",
            new: "Creates a call for the plugin with this name.",
            never: None,
            fields: &[NAME],
            output: Output::Done,
            method: method(
                "uninstall",
                "uninstall the plugin",
                "Uninstalls a plugin ({op}).",
            )
            .deletes(),
        },
        Call {
            operation: "POST /api/plugins/installed/{plugin_name}/refresh",
            name: "RefreshPlugin",
            docs: "installs a plugin again from its source.",
            new: "Creates a call for the plugin with this name.",
            never: None,
            fields: &[NAME],
            output: Output::Part("plugin"),
            method: method(
                "refresh",
                "refresh the plugin",
                "Installs a plugin again from its source ({op}). If that fails, the installed \
                 plugin stays. Waits at most 5 minutes.",
            )
            .errors(NOT_INSTALLED)
            .limit(300),
        },
        Call {
            operation: "GET /api/plugins/marketplace",
            name: "PluginMarketplace",
            docs: "returns the plugins of the public marketplace, which the server downloads.",
            new: "",
            never: None,
            fields: &[],
            output: Output::Part("plugins"),
            method: method(
                "marketplace",
                "list the plugins of the marketplace",
                "Returns the plugins of the public marketplace, which the server downloads ({op}). \
                 Waits at most 5 minutes.",
            )
            .limit(300),
        },
    ],
    types: &[
        Type {
            schema: "PluginInfo",
            name: "PluginInfo",
            docs: "A plugin that conversations can use.",
            new: None,
            fields: &[
                field("name", "The name."),
                field("version", "The version."),
                field("description", "The description."),
                field("path", "The directory on the server."),
                field("skills", "The skills."),
                field("files", "The files, relative to the directory."),
            ],
        },
        Type {
            schema: "PluginSkillSummary",
            name: "PluginSkill",
            docs: "A skill of a plugin.",
            new: None,
            fields: &[
                field("name", "The name."),
                field("description", "The description."),
            ],
        },
        Type {
            schema: "InstalledPluginResponse",
            name: "InstalledPlugin",
            docs: "An installed plugin.",
            new: None,
            fields: &[
                field("name", "The name."),
                field("version", "The version."),
                field("description", "The description."),
                field("enabled", "Whether conversations can use the plugin."),
                field("source", "The source that the plugin was installed from.")
                    .kind(Kind::Address),
                field("resolved_ref", "The commit that was installed."),
                field("repo_path", "The plugin's directory in the repository."),
                field("installed_at", "The time of the installation, in ISO 8601."),
                field("install_path", "The directory on the server."),
                field(
                    "skills",
                    "The skills. `None` if the plugin cannot be loaded.",
                ),
                field(
                    "files",
                    "The files, relative to the directory. `None` if the plugin cannot be loaded.",
                ),
            ],
        },
        Type {
            schema: "FetchPluginResponse",
            name: "FetchedPlugin",
            docs: "A plugin that was downloaded and not installed.",
            new: None,
            fields: &[
                field("path", "The directory on the server."),
                field("resolved_ref", "The commit."),
                field("source", "The source.").kind(Kind::Address),
                field("repo_path", "The plugin's directory in the repository."),
                field("manifest", "The manifest of the plugin."),
                field("skills", "The skills, by name."),
                field("commands", "The commands, by name."),
            ],
        },
        Type {
            schema: "MarketplacePluginInfo",
            name: "MarketplacePlugin",
            docs: "A plugin of the public marketplace.",
            new: None,
            fields: &[
                field("name", "The name."),
                field("description", "The description."),
                field("source", "The source, for [`InstallPlugin`].").kind(Kind::Address),
                field("ref", "The branch, tag or commit.").named("git_ref"),
                field("repo_path", "The plugin's directory in the repository."),
                field("installed", "Whether the plugin is installed."),
                field(
                    "path",
                    "The directory on the server, if the plugin is installed.",
                ),
                field("skills", "The skills, if they are known."),
                field("files", "The files, if they are known."),
            ],
        },
    ],
};
