//! The guide for users of the Python SDK: each public method has a row, and no row is outdated.

use std::collections::BTreeSet;

use openhands_tests::python;
use serde_json::json;

const GUIDE: &str = include_str!("../../../docs/from-python.md");

/// Prints the public methods and properties of the classes, and the functions of the presets.
const LIST: &str = "
import importlib, inspect, json, pkgutil
from pydantic import BaseModel
from openhands.sdk.conversation.impl.remote_conversation import RemoteConversation
from openhands.sdk.hooks import HookConfig
from openhands.sdk.llm import LLM
from openhands.sdk.workspace import Workspace
from openhands.sdk.workspace.remote import RemoteWorkspace
import openhands.tools.preset as presets
names = []
for cls in (RemoteConversation, RemoteWorkspace, Workspace, HookConfig, LLM):
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        method = isinstance(found, (property, staticmethod, classmethod))
        method = method or inspect.isfunction(found)
        if method and not name.startswith('_') and not hasattr(BaseModel, name):
            names.append(f'{cls.__name__}.{name}')
for info in pkgutil.iter_modules(presets.__path__):
    if info.ispkg: continue
    module = importlib.import_module(f'openhands.tools.preset.{info.name}')
    for name, found in vars(module).items():
        own = inspect.isfunction(found) and found.__module__ == module.__name__
        if own and not name.startswith('_'):
            names.append(f'{info.name}.{name}')
print(json.dumps(names))
";

#[tokio::test]
async fn each_public_method_of_the_python_sdk_has_a_row() {
    let listed = python(LIST, &json!({})).await;
    let listed: BTreeSet<String> = serde_json::from_value(listed).unwrap();
    let rows: BTreeSet<String> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(listed.len() > 100, "{listed:?}");
    let missing: Vec<_> = listed.difference(&rows).collect();
    assert!(missing.is_empty(), "docs/from-python.md lacks {missing:#?}");
    let outdated: Vec<_> = rows.difference(&listed).collect();
    assert!(outdated.is_empty(), "not in the SDK: {outdated:#?}");
}
