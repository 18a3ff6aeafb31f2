//! Fields: each field of the server's models has a type here, and no other field exists here.

use std::collections::{BTreeMap, BTreeSet};

use openhands::protocol::{config::*, event::SecurityRisk};
use serde_json::{Value, json};

use super::{differences, full, python};

/// Prints the fields of the server's models. Then decodes our requests as the server does, and
/// prints the fields that were set in each model, and the decoded requests.
const READ: &str = "
import json, sys
import openhands.tools
from pydantic import BaseModel, SecretStr
from openhands.sdk.conversation.request import StartConversationRequest
schema = StartConversationRequest.model_json_schema()
models = {name: sorted(m['properties']) for name, m in schema['$defs'].items()
          if 'properties' in m}
models['StartConversationRequest'] = sorted(schema['properties'])
def words(schema):
    if 'enum' in schema: return schema['enum']
    for part in schema.get('anyOf', []):
        found = words(part)
        if found: return found
    return []
all_words = {f'{name}.{field}': words(p) for name, m in schema['$defs'].items()
             for field, p in m.get('properties', {}).items() if words(p)}
all_words['SecurityRisk'] = schema['$defs']['SecurityRisk']['enum']
all_words.update({f'start.{field}': words(p) for field, p in schema['properties'].items()
                  if words(p)})
seen = {}
secrets = []
def walk(value):
    if isinstance(value, SecretStr):
        secrets.append(value.get_secret_value())
    if isinstance(value, BaseModel):
        names = {f.alias or name for name, f in type(value).model_fields.items()
                 if name in value.model_fields_set}
        # A computed field: that the value is of this class shows that it was read.
        if 'kind' in type(value).model_computed_fields: names.add('kind')
        seen.setdefault(type(value).__name__, set()).update(names)
        for name in type(value).model_fields:
            walk(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values(): walk(item)
    elif isinstance(value, (list, tuple)):
        for item in value: walk(item)
dumps = []
for wire in json.load(sys.stdin):
    start = StartConversationRequest.model_validate(wire)
    walk(start)
    dumps.append(start.model_dump(
        mode='json', by_alias=True, context={'expose_secrets': 'plaintext'}))
seen = {name: sorted(fields) for name, fields in seen.items()}
print(json.dumps({'models': models, 'words': all_words, 'seen': seen, 'secrets': secrets,
                  'dumps': dumps}))
";

/// Models of the server that have a different type here, and which.
const ELSEWHERE: &[(&str, &str)] = &[
    ("HookConfig", "in `hooks`"),
    ("HookMatcher", "in `hooks`"),
    ("HookDefinition", "in `hooks`"),
    ("LocalWorkspace", "by `StartConversation::new`"),
    ("FallbackStrategy", "by `Llm::fallbacks`"),
    ("IterativeRefinementConfig", "by `iterative_refinement`"),
    ("MCPOAuthTokenState", "by `McpOAuthState`"),
    ("MCPOAuthClientInfoState", "by `McpOAuthState`"),
    ("TextContent", "by `InitialMessage::text`"),
    ("ImageContent", "by `InitialMessage::images`"),
];

/// Fields of the server that are omitted on purpose, and why.
const LEFT_OUT: &[(&str, &[&str], &str)] = &[
    (
        "ACPAgent",
        &[
            "condenser",
            "critic",
            "filter_tools_regex",
            "include_default_tools",
            "security_policy_filename",
            "system_prompt",
            "system_prompt_filename",
            "system_prompt_kwargs",
            "tool_concurrency_limit",
            "tools",
        ],
        "an agent of others has its own prompt, tools and history",
    ),
    (
        "TextContent",
        &["cache_prompt"],
        "the server decides what is cached",
    ),
    (
        "ImageContent",
        &["cache_prompt"],
        "the server decides what is cached",
    ),
];

/// Values that the server returns differently than they were sent, and why.
const DUMPED_DIFFERENTLY: &[(&str, &str)] = &[
    (".memory_context", "never dumped: the server reads its own"),
    (".fallback_strategy", "never dumped"),
    (".condensers[1].llm.stream", "a summary is not streamed"),
    (".analyzers[3].api_key", "always dumped as a mask"),
    (
        "[6].agent.llm.model",
        "an agent of others names its own model",
    ),
];

/// Our types, each with the server's models that it covers.
const TYPES: &[(&[&str], &[&str])] = &[
    (&["StartConversationRequest"], StartConversation::FIELDS),
    (&["AgentLaunchAdditions"], LaunchAdditions::FIELDS),
    (&["Agent"], Agent::FIELDS),
    (&["ACPAgent"], AcpAgent::FIELDS),
    (&["ACPFileSecretSpec"], AcpFileSecret::FIELDS),
    (&["LLM"], Llm::FIELDS),
    (&["Tool"], ToolSpec::FIELDS),
    (&["ClientToolSpec"], ClientToolSpec::FIELDS),
    (&["ToolAnnotations"], ToolAnnotations::FIELDS),
    (&["NoOpCondenser", "PipelineCondenser"], Condenser::FIELDS),
    (&["LLMSummarizingCondenser"], SummarizingCondenser::FIELDS),
    (&["AgentContext"], AgentContext::FIELDS),
    (&["Skill"], Skill::FIELDS),
    (&["InputMetadata"], SkillInput::FIELDS),
    (&["SkillResources"], SkillResources::FIELDS),
    (
        &["KeywordTrigger", "TaskTrigger", "PathTrigger"],
        Trigger::FIELDS,
    ),
    (&["MCPServer"], McpServer::FIELDS),
    (
        &[
            "MCPNoneAuthCredential",
            "MCPApiKeyAuthCredential",
            "MCPBearerAuthCredential",
            "MCPBasicAuthCredential",
            "MCPHeaderAuthCredential",
            "MCPOAuthAuthCredential",
        ],
        McpAuth::FIELDS,
    ),
    (&["MCPOAuthAuthentication"], McpOAuth::FIELDS),
    (&["MCPOAuthState"], McpOAuthState::FIELDS),
    (
        &["AlwaysConfirm", "NeverConfirm", "ConfirmRisky"],
        ConfirmationPolicy::FIELDS,
    ),
    (
        &[
            "LLMSecurityAnalyzer",
            "PolicyRailSecurityAnalyzer",
            "EnsembleSecurityAnalyzer",
        ],
        SecurityAnalyzer::FIELDS,
    ),
    (&["PatternSecurityAnalyzer"], PatternAnalyzer::FIELDS),
    (&["GraySwanAnalyzer"], GraySwanAnalyzer::FIELDS),
    (
        &["ToolShieldLLMSecurityAnalyzer"],
        ToolShieldAnalyzer::FIELDS,
    ),
    (
        &["PassCritic", "AgentFinishedCritic", "EmptyPatchCritic"],
        Critic::FIELDS,
    ),
    (&["APIBasedCritic"], ApiCritic::FIELDS),
    (&["StaticSecret", "LookupSecret"], SecretSource::FIELDS),
    (&["PluginSource"], Plugin::FIELDS),
    (&["MarketplaceRegistration"], Marketplace::FIELDS),
    (&["AgentDefinition"], SubAgent::FIELDS),
    (&["ConversationWorktreeOptions"], Worktree::FIELDS),
    (&["ConversationContainerOptions"], Container::FIELDS),
    (&["SendMessageRequest"], InitialMessage::FIELDS),
];

type Models = BTreeMap<String, BTreeSet<String>>;

/// Returns the server's models without the fields that are omitted on purpose. Panics if such a
/// field does not exist.
fn models(answer: &Value) -> Models {
    let mut models: Models = serde_json::from_value(answer["models"].clone()).unwrap();
    for (model, fields, _) in LEFT_OUT {
        for field in *fields {
            let known = models.get_mut(*model).unwrap().remove(*field);
            assert!(known, "{model}.{field} is left out but does not exist");
        }
    }
    models
}

#[tokio::test]
async fn every_field_of_the_server_is_typed_and_none_is_invented() {
    let mut models = models(&python(READ, &json!([])).await);
    let mut found = Vec::new();
    for (names, ours) in TYPES {
        let theirs: BTreeSet<String> = names
            .iter()
            .flat_map(|name| {
                models
                    .remove(*name)
                    .unwrap_or_else(|| panic!("no model {name}"))
            })
            .collect();
        let ours: BTreeSet<String> = ours.iter().map(|field| (*field).to_owned()).collect();
        found.extend(
            theirs
                .difference(&ours)
                .map(|field| format!("{names:?} lacks {field}")),
        );
        found.extend(
            ours.difference(&theirs)
                .map(|field| format!("{names:?} invents {field}")),
        );
    }
    for (name, _) in ELSEWHERE {
        assert!(models.remove(*name).is_some(), "no model {name}");
    }
    found.extend(models.keys().map(|name| format!("no type for {name}")));
    assert!(found.is_empty(), "{found:#?}");
}

/// Choices of the server that have a different type here, and which.
const CHOICES_ELSEWHERE: &[(&str, &str)] = &[
    ("ConversationWorktreeOptions.base", "by constructors"),
    ("MCPServer.transport", "by constructors"),
    (
        "MCPOAuthAuthentication.client_auth_method",
        "a text: each provider has its own values",
    ),
    ("SendMessageRequest.role", "a text: `user` in all but tests"),
];

#[tokio::test]
async fn every_choice_of_the_server_is_known_to_the_client() {
    macro_rules! knows {
        ($name:ident) => {
            |word: &str| !matches!($name::from(word), $name::Other(_))
        };
    }
    type Knows = fn(&str) -> bool;
    let ours: &[(&str, Knows)] = &[
        ("ACPFileSecretSpec.env_points_to", knows!(PointsTo)),
        ("APIBasedCritic.mode", knows!(CriticMode)),
        ("AgentDefinition.level", knows!(DefinitionLevel)),
        ("AgentFinishedCritic.mode", knows!(CriticMode)),
        ("EmptyPatchCritic.mode", knows!(CriticMode)),
        ("LLM.api_mode", knows!(ApiMode)),
        ("LLM.auth_type", |word| {
            word == "api_key" || word == "subscription"
        }),
        ("LLM.reasoning_effort", knows!(ReasoningEffort)),
        ("LLM.reasoning_summary", knows!(ReasoningSummary)),
        ("PassCritic.mode", knows!(CriticMode)),
        ("SecurityRisk", knows!(SecurityRisk)),
        ("start.conversation_runtime", knows!(ConversationRuntime)),
    ];
    let answer = python(READ, &json!([])).await;
    let mut choices = answer["words"].as_object().unwrap().clone();
    let mut found = Vec::new();
    for (name, knows) in ours {
        let words = choices
            .remove(*name)
            .unwrap_or_else(|| panic!("no choice {name}"));
        for word in words.as_array().unwrap() {
            if !knows(word.as_str().unwrap()) {
                found.push(format!("{name} lacks {word}"));
            }
        }
    }
    for (name, _) in CHOICES_ELSEWHERE {
        assert!(choices.remove(*name).is_some(), "no choice {name}");
    }
    found.extend(choices.keys().map(|name| format!("no type for {name}")));
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn the_server_reads_the_values_that_the_client_sets() {
    let starts = full::starts();
    for start in &starts {
        start.check().unwrap();
    }
    let wires = json!(starts);
    let answer = python(READ, &wires).await;

    let seen: Models = serde_json::from_value(answer["seen"].clone()).unwrap();
    let mut found = Vec::new();
    for (model, fields) in models(&answer) {
        let unset: Vec<_> = match seen.get(&model) {
            Some(seen) => fields.difference(seen).collect(),
            None => fields.iter().collect(),
        };
        if !unset.is_empty() {
            found.push(format!("{model}: no test sets {unset:?}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");

    // Values that are secret on the server must be secret here: all secrets in full.rs are
    // canaries.
    let secrets = answer["secrets"].as_array().unwrap();
    assert!(secrets.len() > 20, "{}", secrets.len());
    for secret in secrets {
        assert!(secret.as_str().unwrap().starts_with("canary"), "{secret}");
    }
    let shown = format!("{starts:?} {starts:#?}");
    assert!(!shown.contains("canary"), "{shown}");

    let dumps = answer["dumps"].as_array().unwrap();
    for (index, (ours, theirs)) in wires.as_array().unwrap().iter().zip(dumps).enumerate() {
        differences(&format!("[{index}]"), ours, theirs, &mut found);
    }
    for (path, _) in DUMPED_DIFFERENTLY {
        let before = found.len();
        found.retain(|difference| {
            let (at, _) = difference.split_once(": ").unwrap();
            !at.ends_with(path)
        });
        assert!(
            found.len() < before,
            "the exception for {path} is not needed"
        );
    }
    assert!(found.is_empty(), "{found:#?}");
}
