//! Start requests with every field set, in every variant.

use std::time::Duration;

use openhands::{
    Hook, HookConfig, HookMatcher,
    protocol::{ConversationId, config::*, event::SecurityRisk},
};
use serde_json::json;

/// Returns several requests, because one has only one agent, one policy and one analyzer.
pub(crate) fn starts() -> Vec<StartConversation> {
    let profile = uuid::Uuid::new_v4();
    let additions = LaunchAdditions::new()
        .system_message_suffix_append("more")
        .skill(Skill::new("launched", "text"));
    vec![
        everything(agent(refined(Critic::pass()).mode(CriticMode::AllActions)).into()),
        start(agent(refined(Critic::empty_patch())))
            .confirmation_policy(ConfirmationPolicy::always()),
        start(agent(refined(Critic::agent_finished())))
            .confirmation_policy(ConfirmationPolicy::never())
            .worktree(Worktree::of_default_branch()),
        start(agent(critic())).worktree(Worktree::of_head()),
        start(
            Agent::new(llm())
                .system_prompt("all of it")
                .condenser(Condenser::none()),
        ),
        start(Agent::new(Llm::new("openai/gpt-5").subscription("openai"))),
        start(acp()),
        start(AgentSource::settings(
            json!({"agent_kind": "openhands", "llm": {"model": "m"}}),
        ))
        .agent_launch_additions(additions.clone()),
        start(AgentSource::profile(profile))
            .agent_launch_additions(additions.llm_profile_ref("fast")),
    ]
}

fn start(agent: impl Into<AgentSource>) -> StartConversation {
    StartConversation::new(agent, "/project/project")
}

fn everything(agent: AgentSource) -> StartConversation {
    let parameters = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    start(agent)
        .parent_conversation_id(ConversationId::random())
        .confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::Medium).confirm_unknown(false))
        .security_analyzer(analyzer())
        .initial_message(
            InitialMessage::new("hello")
                .images(["data:image/png;base64,AAAA"])
                .role("user")
                .run(true),
        )
        .max_iterations(7)
        .stuck_detection(false)
        .secret("FIXED", SecretSource::fixed("canary1").description("d"))
        .secret(
            "LOOKED_UP",
            SecretSource::lookup("http://127.0.0.1:1/s")
                .header("X-API-Key", "canary2")
                .description("d"),
        )
        .secrets_encrypted(false)
        .tool_module("terminal", "openhands.tools.terminal.definition")
        .client_tool(
            ClientToolSpec::new("notify", "notifies the user")
                .parameters(parameters)
                .annotations(
                    ToolAnnotations::new()
                        .title("Notify")
                        .read_only(true)
                        .destructive(false)
                        .idempotent(true)
                        .open_world(false),
                ),
        )
        .sub_agent(sub_agent())
        .plugin(
            Plugin::new("github:owner/repo")
                .reference("v1")
                .repo_path("plugins/one"),
        )
        .hook_config(hooks())
        .tag("team", "tools")
        .user_id("u")
        .observability_metadata("n", 1)
        .observability_metadata("list", vec!["a", "b"])
        .observability_tag("t")
        .observability_span_name("a.b:c/d")
        .observability_parent_span_context("context")
        .autotitle(true)
        .title_llm_profile("fast")
        .prompt("Title of {conversation_content}")
        .conversation_runtime(ConversationRuntime::Local)
        .container(Container::new().memory("1.5g").cpus(0.5).browser(false))
        .worktree(Worktree::of_ref("main").branch_prefix("mine/"))
}

fn llm() -> Llm {
    Llm::new("bedrock/anthropic.claude")
        .api_key("canary3")
        .api_key_auth()
        .provider_connection_id("connection")
        .base_url("http://127.0.0.1:1/v1")
        .api_version("2")
        .aws_access_key_id("canary4")
        .aws_secret_access_key("canary5")
        .aws_session_token("canary6")
        .aws_region_name("eu-central-1")
        .aws_profile_name("profile")
        .aws_role_name("role")
        .aws_session_name("session")
        .aws_bedrock_runtime_endpoint("http://127.0.0.1:1")
        .openrouter_site_url("http://127.0.0.1:1")
        .openrouter_app_name("app")
        .num_retries(1)
        .retry_multiplier(1.5)
        .retry_min_wait(Duration::from_secs(1))
        .retry_max_wait(Duration::from_secs(2))
        .timeout(Duration::from_secs(30))
        .stream_idle_timeout(Duration::from_secs(31))
        .max_message_chars(1000)
        .temperature(0.1)
        .top_p(0.9)
        .top_k(40.0)
        .max_input_tokens(100_000)
        .max_output_tokens(1000)
        .model_canonical_name("anthropic/claude")
        .api_mode(ApiMode::Chat)
        .capability_override("supports_vision", true)
        .extra_header("X-Header", "canary7")
        .input_cost_per_token(0.001)
        .output_cost_per_token(0.002)
        .ollama_base_url("http://127.0.0.1:2")
        .stream(true)
        .drop_params(false)
        .disable_vision(true)
        .disable_stop_word(true)
        .caching_prompt(false)
        .log_completions(false)
        .log_completions_folder("/tmp/completions")
        .custom_tokenizer("")
        .native_tool_calling(false)
        .force_string_serializer(true)
        .inline_image_urls(false)
        .reasoning_effort(ReasoningEffort::Minimal)
        .reasoning_summary(ReasoningSummary::Concise)
        .enable_encrypted_reasoning(false)
        .prompt_cache_retention(None)
        .extended_thinking_budget(1000)
        .seed(-3)
        .usage_id("agent")
        .extra_body("tags", vec!["a"])
        .fallbacks(["other"])
        .fallback_profile_dir("/profiles")
}

fn agent(critic: impl Into<Critic>) -> Agent {
    let summary = SummarizingCondenser::new(llm().usage_id("condenser"))
        .max_size(90)
        .max_tokens(50_000)
        .keep_first(3)
        .minimum_progress(0.2)
        .hard_context_reset_max_retries(4)
        .hard_context_reset_context_scaling(0.5);
    Agent::new(llm())
        .tool(ToolSpec::new("terminal").param("terminal_type", "subprocess"))
        .tool("file_editor")
        .mcp_server("program", stdio())
        .mcp_server(
            "http",
            McpServer::http("http://127.0.0.1:1/mcp").header("X-Key", "canary8"),
        )
        .mcp_server("none", signed_in(McpAuth::none()))
        .mcp_server("key", signed_in(McpAuth::api_key("canary9", Some("X-Key"))))
        .mcp_server("bearer", signed_in(McpAuth::bearer("canary10")))
        .mcp_server("basic", signed_in(McpAuth::basic("user", "canary11")))
        .mcp_server(
            "header",
            signed_in(McpAuth::headers().header("Authorization", "canary12")),
        )
        .mcp_server("oauth", signed_in(oauth()))
        .filter_tools_regex("^(terminal|file_editor)$")
        .include_default_tools(["FinishTool"])
        .agent_context(context())
        .system_prompt_filename("mine.j2")
        .security_policy_filename("")
        .system_prompt_arg("cli_mode", true)
        .system_prompt_arg("llm_security_analyzer", false)
        .condenser(Condenser::pipeline([Condenser::none(), summary.into()]))
        .critic(critic)
        .tool_concurrency_limit(2)
        .persona("a pirate")
}

fn stdio() -> McpServer {
    McpServer::stdio("uvx")
        .args(["mcp-server-fetch"])
        .env("TOKEN", "canary13")
        .cwd("/project")
        .description("fetches")
        .icon("http://127.0.0.1:1/icon.png")
        .timeout(Duration::from_millis(5_500))
        .sse_read_timeout(Duration::from_millis(6_500))
        .keep_alive(true)
        .enabled(false)
}

fn signed_in(auth: McpAuth) -> McpServer {
    McpServer::sse("http://127.0.0.1:1/sse").auth(auth)
}

fn oauth() -> McpAuth {
    let client = McpOAuth::new()
        .client_auth_method("client_secret_post")
        .scopes(["read", "write"])
        .client_name("client")
        .client_metadata_url("http://127.0.0.1:1/client")
        .client_id("id")
        .client_secret("canary14")
        .client_metadata("contacts", vec!["a@b"]);
    let state = McpOAuthState::new()
        .access_token("canary15")
        .refresh_token("canary16")
        .client_secret("canary17")
        .token_expires_at(2e9);
    McpAuth::oauth().authentication(client).state(state)
}

fn context() -> AgentContext {
    let resources = SkillResources::new("/skills/full")
        .scripts(["scripts/a.sh"])
        .references(["references/b.md"])
        .assets(["assets/c.png"]);
    let full = Skill::new("full", "text")
        .trigger(Trigger::keywords(["word"]))
        .source("/skills/full/SKILL.md")
        .mcp_tool("fetch", stdio())
        .input(SkillInput::new("name", "whose"))
        .is_agentskills_format(true)
        .version("2.0.0")
        .description("does it all")
        .license("MIT")
        .compatibility("needs git")
        .metadata("key", "value")
        .allowed_tools(["terminal"])
        .disable_model_invocation(true)
        .resources(resources);
    let marketplace = Marketplace::new("market", "github:owner/repo")
        .reference("main")
        .repo_path("market");
    AgentContext::new()
        .skill(full)
        .skill(Skill::new("task", "text").trigger(Trigger::task(["/task"])))
        .skill(Skill::new("path", "text").trigger(Trigger::paths(["src/**"])))
        .system_message_suffix("after the prompt")
        .user_message_suffix("after a message")
        .load_user_skills(false)
        .load_public_skills(false)
        .marketplace_path("marketplaces/mine.json".to_owned())
        .marketplace(marketplace.clone().load_all())
        .marketplace(marketplace.load(["one"]))
        .load_project_skills(true)
        .load_memory(true)
        .memory_context("remembered")
        .disabled_skills(["another"])
        .secret("TOKEN", SecretSource::fixed("canary18"))
        .current_datetime("2026-01-02T03:04:05".to_owned())
}

fn refined(critic: Critic) -> Critic {
    critic
        .iterative_refinement(0.7, 2)
        .mode(CriticMode::FinishAndMessage)
}

fn critic() -> ApiCritic {
    ApiCritic::new("canary19")
        .server_url("http://127.0.0.1:1/critic")
        .model_name("critic")
        .tokenizer_name("tokenizer")
        .pass_tools_definitions(false)
        .timeout(Duration::from_secs(10))
        .has_success_label(false)
        .sentiment_labels(["s"])
        .agent_issue_labels(["a"])
        .infra_labels(["i"])
        .user_followup_labels(["u"])
        .sentiment("Positive", "s")
        .issue_threshold(0.5)
        .mode(CriticMode::AllActions)
        .iterative_refinement(0.5, 4)
}

fn acp() -> AcpAgent {
    let file = AcpFileSecret::new("CODEX_AUTH", "codex", "auth.json", "CODEX_HOME")
        .env_points_to(PointsTo::Directory)
        .warn_if_unset(["OTHER"]);
    AcpAgent::new(["npx", "-y", "agent"])
        .acp_args(["--fast"])
        .acp_server("custom")
        .acp_session_mode("plan")
        .acp_prompt_timeout(Duration::from_secs(100))
        .acp_startup_timeout(Duration::from_secs(50))
        .acp_model("sonnet")
        .acp_resume_session_id("canary")
        .acp_file_secret(file)
        .acp_isolate_data_dir(true)
        .mcp_server("program", stdio())
        .agent_context(AgentContext::new().system_message_suffix("more"))
        .llm(Llm::new("acp-managed").usage_id("acp"))
}

fn analyzer() -> SecurityAnalyzer {
    let pattern = RiskPattern::new("rm -rf", "destroys", "DET_RM");
    let patterns = PatternAnalyzer::new()
        .high_patterns([pattern.clone()])
        .medium_patterns([pattern.clone()])
        .injection_high_patterns([pattern.clone()])
        .injection_medium_patterns([pattern]);
    let gray = GraySwanAnalyzer::new()
        .api_key("canary20")
        .policy_id("policy")
        .api_url("http://127.0.0.1:1/gray")
        .history_limit(5)
        .max_message_chars(100)
        .timeout(Duration::from_secs(3))
        .low_threshold(0.1)
        .medium_threshold(0.9);
    let shield = ToolShieldAnalyzer::new(llm().usage_id("shield"))
        .history_window(3)
        .safety_experiences("never delete");
    SecurityAnalyzer::ensemble([
        SecurityAnalyzer::llm(),
        SecurityAnalyzer::policy_rail(),
        patterns.into(),
        gray.into(),
        shield.into(),
    ])
    .propagate_unknown(true)
}

fn sub_agent() -> SubAgent {
    SubAgent::new("reviewer")
        .description("reviews")
        .model("inherit")
        .color("blue")
        .tools(["terminal"])
        .skills(["full"])
        .system_prompt("You review.")
        .source("/agents/reviewer.md")
        .level(DefinitionLevel::Programmatic)
        .when_to_use_examples(["a review"])
        .hooks(hooks())
        .permission_mode(PermissionMode::ConfirmRisky)
        .max_iteration_per_run(5)
        .max_budget_per_run(1.5)
        .mcp_server("program", stdio())
        .profile_store_dir("/profiles")
        .condenser(Condenser::none())
        .metadata("key", "value")
}

fn hooks() -> HookConfig {
    HookConfig::new()
        .pre_tool_use(HookMatcher::exact("terminal").hook(Hook::command("./guard.sh").name("g")))
        .post_tool_use(Hook::command("./log.sh").detached())
        .user_prompt_submit(Hook::prompt("No secrets."))
        .session_start(Hook::command("./begin.sh").timeout(Duration::from_secs(5)))
        .session_end(Hook::command("./end.sh"))
        .stop(Hook::agent("You judge.").tool("terminal").max_iterations(2))
}
