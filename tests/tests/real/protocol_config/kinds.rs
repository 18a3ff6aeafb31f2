//! Kinds: each kind in the server's package has a type here, and no other kind exists here.

use std::collections::{BTreeMap, BTreeSet};

use openhands::protocol::{
    Payload,
    event::{Action, Observation},
};
use serde_json::Value;

use super::python;

/// Prints the classes that a server of this version can send. Loads every module of the package
/// first.
const WALK: &str = "
import importlib, inspect, json, pkgutil
import openhands.agent_server, openhands.sdk, openhands.tools
for package in openhands.agent_server, openhands.sdk, openhands.tools:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        if not module.name.endswith('__main__'): importlib.import_module(module.name)
from openhands.sdk.event.base import Event
from openhands.sdk.tool.schema import Action, Observation
def concrete(base):
    for model in base.__subclasses__():
        if not inspect.isabstract(model): yield model.__name__
        yield from concrete(model)
print(json.dumps({base.__name__: sorted(set(concrete(base)))
                  for base in (Event, Action, Observation)}))
";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_the_installed_server_has_a_type_and_no_other_has() {
    let theirs = python(WALK, &Value::Null).await;
    let theirs: BTreeMap<String, BTreeSet<String>> = serde_json::from_value(theirs).unwrap();
    let ours = [
        ("Event", Payload::KINDS),
        ("Action", Action::KINDS),
        ("Observation", Observation::KINDS),
    ];
    assert_eq!(theirs.len(), ours.len());
    for (base, kinds) in ours {
        let kinds: BTreeSet<String> = kinds.iter().map(ToString::to_string).collect();
        assert!(kinds.len() >= 20, "{base}: {kinds:?}");
        assert_eq!(kinds, theirs[base], "{base}");
    }
}
