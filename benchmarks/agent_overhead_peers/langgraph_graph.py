"""langgraph: a graph of a model and its tools, with langchain-openai for the model, streamed."""

from __future__ import annotations

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from langchain_core.messages import AIMessageChunk, BaseMessage, SystemMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    tools = [tool("add")(harness.add_async)]
    model = ChatOpenAI(model=script.MODEL, base_url=base_url, api_key=script.KEY, streaming=True).bind_tools(tools)
    system = SystemMessage(script.SYSTEM)

    async def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke([system, *state["messages"]])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", tools_condition)
    builder.add_edge("tools", "ask")
    graph = builder.compile()

    async def run(prompt: str) -> str:
        begin = {"messages": [{"role": "user", "content": prompt}]}
        texts: list[str] = []
        async for message, _ in graph.astream(begin, {"recursion_limit": 100}, stream_mode="messages"):
            if isinstance(message, AIMessageChunk):
                texts.append(str(message.content))
        return "".join(texts)

    return run


if __name__ == "__main__":
    harness.measure(prepare)
