"""A tool that counts the lines and words of a file. The server imports this module at its start."""

from pathlib import Path

from pydantic import Field

from openhands.sdk.tool import (
    Action,
    Observation,
    ToolDefinition,
    ToolExecutor,
    register_tool,
)


class WordCountAction(Action):
    """The arguments, as the model writes them."""

    path: str = Field(description="Path of the file, relative to the working directory.")


class WordCountObservation(Observation):
    """The result. The text for the model is in `content`, which every observation has."""

    lines: int
    words: int


class WordCountExecutor(ToolExecutor[WordCountAction, WordCountObservation]):
    def __init__(self, directory: str):
        self.directory = Path(directory)

    def __call__(self, action, conversation=None):
        text = (self.directory / action.path).read_text()
        lines, words = len(text.splitlines()), len(text.split())
        return WordCountObservation.from_text(
            f"{lines} lines, {words} words", lines=lines, words=words
        )


class WordCountTool(ToolDefinition[WordCountAction, WordCountObservation]):
    """The name of the tool is that of its class: `word_count`."""

    @classmethod
    def create(cls, conv_state):
        return [
            cls(
                description="Counts the lines and words of a file.",
                action_type=WordCountAction,
                observation_type=WordCountObservation,
                executor=WordCountExecutor(conv_state.workspace.working_dir),
            )
        ]


register_tool(WordCountTool.name, WordCountTool)
