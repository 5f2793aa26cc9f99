// SPDX-License-Identifier: Apache-2.0
// Goldens: every snippet and conversation rendered by Jinja2 3.1.6 in the environment that transformers sets
// up.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "base/json.h"

namespace nibble {
namespace {

std::string golden_path(const std::string& name) {
  return std::string(NIBBLE_SOURCE_DIR) + "/tests/golden/chat/" + name;
}

std::vector<Json> golden_lines(const std::string& name) {
  std::ifstream file(golden_path(name));
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

Result<std::string> render(const std::string& source, const Conversation& conversation = {}) {
  TRY_ASSIGN(const ChatTemplate chat, ChatTemplate::parse(source));
  return chat.render(conversation);
}

TEST(ChatTemplate, EverySnippetGivesWhatJinjaGives) {
  const Json variables = *read_json_file(golden_path("variables.json"));
  const std::vector<Json> snippets = golden_lines("snippets.jsonl");
  ASSERT_GT(snippets.size(), 100u);
  for (const Json& snippet : snippets) {
    const std::string source = snippet["template"];
    SCOPED_TRACE(source);
    const Result<std::string> text = render(
        source, {.extra = &variables, .special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}}});
    if (snippet.contains("text")) {
      ASSERT_TRUE(text.ok()) << text.error().message();
      EXPECT_EQ(*text, snippet["text"].get<std::string>());
    } else {
      ASSERT_FALSE(text.ok()) << *text;
      EXPECT_THAT(text.error().where, testing::HasSubstr("line "));
      EXPECT_EQ(ChatTemplate::parse(source).ok(), snippet["error"] == "render");
    }
  }
}

TEST(ChatTemplate, EveryConversationGivesWhatTransformersGives) {
  const Json templates = *read_json_file(golden_path("templates.json"));
  for (const Json& golden : golden_lines("conversations.jsonl")) {
    SCOPED_TRACE(golden.dump());
    const bool has_tools = golden.contains("tools");
    const Conversation conversation{
        .messages = &golden["messages"],
        .tools = has_tools ? &golden["tools"] : nullptr,
        .extra = golden.contains("extra") ? &golden["extra"] : nullptr,
        .add_generation_prompt = golden["add_generation_prompt"],
        .special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}},
    };
    const Result<std::string> text = render(templates[golden["template"].get<std::string>()], conversation);
    ASSERT_EQ(text.ok(), golden["text"].is_string());
    if (!text.ok()) continue;
    EXPECT_EQ(*text, golden["text"].get<std::string>());
  }
}

TEST(ChatTemplate, ATemplateThatRefusesSaysWhy) {
  const Result<std::string> text = render("\n{{ raise_exception('roles must alternate') }}");
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, ErrorCode::kBadData);
  EXPECT_THAT(text.error().what, testing::HasSubstr("roles must alternate"));
  EXPECT_THAT(text.error().where, testing::HasSubstr("line 2"));
}

TEST(ChatTemplate, UnknownNamesSuggestTheNearest) {
  EXPECT_THAT(render("{{ x|uper }}").error().hint, testing::HasSubstr("upper"));
  EXPECT_THAT(render("{{ x is definde }}").error().hint, testing::HasSubstr("defined"));
}

struct Hostile {
  const char* name;
  std::string source;
};

void PrintTo(const Hostile& entry, std::ostream* out) {
  *out << entry.name;
}

class HostileTemplate : public testing::TestWithParam<Hostile> {};

TEST_P(HostileTemplate, EndsWithAnErrorInReasonableTime) {
  const auto begin = std::chrono::steady_clock::now();
  const Result<std::string> text = render(GetParam().source);
  EXPECT_FALSE(text.ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

std::string times(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

INSTANTIATE_TEST_SUITE_P(
    Limits, HostileTemplate,
    testing::Values(Hostile{"NestedLoops",
                            times("{% for i in range(90000) %}", 3) + "x" + times("{% endfor %}", 3)},
                    Hostile{"EndlessMacro", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"},
                    Hostile{"HugeString", "{{ 'abcdefgh' * 1000000000000 }}"},
                    Hostile{"HugeList", "{{ [1] * 1000000000000 }}"},
                    Hostile{"DoublingString",
                            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
                            "{% set ns.s = ns.s + ns.s %}{% endfor %}"},
                    Hostile{"DeepParentheses", "{{ " + times("(", 100000) + "1" + times(")", 100000) + " }}"},
                    Hostile{"DeepLists", "{{ " + times("[", 100000) + times("]", 100000) + " }}"},
                    Hostile{"LongSum", "{{ 1" + times(" + 1", 200000) + " }}"},
                    Hostile{"ManyNots", "{{ " + times("not ", 200000) + "1 }}"},
                    Hostile{"ManyMinuses", "{{ " + times("-", 200000) + "1 }}"},
                    Hostile{"ManyFilters", "{{ 1" + times("|abs", 200000) + " }}"},
                    Hostile{"DeepIfs", times("{% if 1 %}", 50000)},
                    Hostile{"ManyElifs", "{% if 1 %}" + times("{% elif 1 %}", 50000) + "{% endif %}"},
                    Hostile{"LongPower", "{{ 3 ** 1000000000 }}"},
                    Hostile{"LongComparisons",
                            "{% set s = 'a' * 16000000 %}{% for i in range(99999) %}"
                            "{% if s == s ~ 'a' %}{% endif %}{% endfor %}"}),
    [](const auto& entry) { return entry.param.name; });

TEST(ChatTemplate, ANamespaceThatHoldsItselfIsFreed) {
  EXPECT_EQ(*render("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self is defined }}"), "True");
}

}  // namespace
}  // namespace nibble
