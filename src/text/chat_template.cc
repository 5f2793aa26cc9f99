// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include "base/json.h"
#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"

namespace nibble {
namespace {

using jinja::Arguments;
using jinja::Renderer;
using jinja::Value;

std::tm fixed_day() {
  std::tm day{};
  day.tm_year = 124;  // 26 July 2024, the day that the Llama 3 templates fall back to
  day.tm_mon = 6;
  day.tm_mday = 26;
  day.tm_wday = 5;
  day.tm_yday = 207;
  return day;
}

Value strftime_function(const std::tm& now) {
  return Value::callable({"strftime_now", [now](Renderer&, const Arguments& arguments) -> Result<Value> {
                            const Value* pattern = arguments.find(0, "format");
                            if (pattern == nullptr) return bad_data("strftime_now needs a format");
                            TRY_ASSIGN(const std::string format,
                                       jinja::text_argument("strftime_now", *pattern));
                            char text[256];
                            const std::size_t length = std::strftime(text, sizeof text, format.c_str(), &now);
                            return Value(std::string(text, length));
                          }});
}

Value optional_value(const Json* json) {
  return json == nullptr ? Value() : Value::from_json(*json);
}

}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  Result<jinja::Statements> program = jinja::parse_template(source).at("chat template");
  if (!program.ok()) return std::move(program).error();
  return ChatTemplate(std::make_shared<const Program>(std::move(program).value()));
}

Result<std::string> ChatTemplate::render(const Conversation& conversation) const {
  std::vector<std::pair<std::string, Value>> names = jinja::global_functions();
  names.emplace_back("strftime_now", strftime_function(conversation.now.value_or(fixed_day())));
  for (const auto& [name, text] : conversation.special_tokens) names.emplace_back(name, text);
  // transformers passes these always, so that "is defined" holds even for none.
  names.emplace_back("messages", optional_value(conversation.messages));
  names.emplace_back("tools", optional_value(conversation.tools));
  names.emplace_back("documents", optional_value(conversation.documents));
  names.emplace_back("add_generation_prompt", conversation.add_generation_prompt);
  if (conversation.extra != nullptr) {
    for (const auto& [name, value] : conversation.extra->items())
      names.emplace_back(name, Value::from_json(value));
  }
  return Renderer().render(*program_, std::move(names)).at("chat template");
}

std::map<std::string, std::string> special_token_names(const Tokenizer& tokenizer) {
  std::map<std::string, std::string> names;
  if (const auto id = tokenizer.bos()) names["bos_token"] = tokenizer.token_text(*id);
  if (const auto id = tokenizer.eos()) names["eos_token"] = tokenizer.token_text(*id);
  return names;
}

}  // namespace nibble
