// SPDX-License-Identifier: Apache-2.0
#include "text/record.h"

#include <fmt/format.h>

#include <limits>

#include "base/json.h"
#include "base/suggest.h"

namespace nibble {
namespace {

// ShareGPT's names of the speakers.
constexpr std::pair<std::string_view, std::string_view> kSpeakers[] = {{"human", "user"},
                                                                       {"gpt", "assistant"},
                                                                       {"chatgpt", "assistant"},
                                                                       {"bing", "assistant"},
                                                                       {"model", "assistant"}};

// [{"from": "human", "value": ...}] as [{"role": "user", "content": ...}]; other conversations stay as they
// are.
Json with_roles(const Json& turns) {
  Json messages = Json::array();
  for (const Json& turn : turns) {
    if (!turn.is_object() || !turn.contains("from") || !turn.contains("value") || !turn["from"].is_string())
      return turns;
    std::string role = turn["from"];
    for (const auto& [speaker, name] : kSpeakers) {
      if (role == speaker) role = name;
    }
    messages.push_back({{"role", role}, {"content", turn["value"]}});
  }
  return messages;
}

bool is_conversation(const Json& value) {
  return value.is_array() && !value.empty() && value[0].is_object() &&
         (value[0].contains("role") || value[0].contains("from"));
}

const Json* member(const Json& record, const std::string& key) {
  const auto it = record.find(key);
  return it == record.end() || it->is_null() ? nullptr : &*it;
}

Result<Document> rendered(const Json& turns, const Json& record, const DatasetOptions& options) {
  if (!options.chat_template) {
    return bad_data("the record is a conversation, but the model has no chat template",
                    "add chat_template.jinja to the model's folder, or give texts instead");
  }
  const Json messages = with_roles(turns);
  Conversation conversation{.messages = &messages, .special_tokens = options.special_tokens};
  conversation.tools = member(record, "tools");
  conversation.documents = member(record, "documents");
  TRY_ASSIGN(std::string text, options.chat_template->render(conversation));
  return Document{.text = std::move(text), .has_special_tokens = true};
}

Result<Document> exact_tokens(const Json& ids) {
  if (!ids.is_array())
    return bad_data(fmt::format("input_ids is a {}, not a list of numbers", ids.type_name()));
  std::vector<TokenId> tokens;
  for (const Json& id : ids) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
        id.get<std::int64_t>() > std::numeric_limits<TokenId>::max()) {
      return bad_data(fmt::format("input_ids holds {}, which is no token id", id.dump()));
    }
    tokens.push_back(id.get<TokenId>());
  }
  return Document{.ids = std::move(tokens)};
}

}  // namespace

Error missing_column(const std::string& column, const std::vector<std::string>& columns) {
  std::string hint = did_you_mean(column, columns);
  if (hint.empty()) hint = "--text-column names another one";
  return bad_data(fmt::format("there is no column \"{}\"; there are {}", column, fmt::join(columns, ", ")),
                  hint);
}

Result<Document> document_of_record(const Json& record, const DatasetOptions& options) {
  if (record.is_string()) return Document{.text = record.get<std::string>()};
  if (!record.is_object())
    return bad_data(fmt::format("a record is a {}, not an object or a text", record.type_name()));
  if (const Json* text = member(record, options.text_column)) {
    if (text->is_string()) return Document{.text = text->get<std::string>()};
    if (is_conversation(*text)) return rendered(*text, record, options);
    if (options.text_column == "input_ids") return exact_tokens(*text);
    return bad_data(fmt::format("column \"{}\" is a {}, not a text", options.text_column, text->type_name()));
  }
  const bool column_was_named = options.text_column != DatasetOptions().text_column;
  if (!column_was_named) {
    if (const Json* ids = member(record, "input_ids")) return exact_tokens(*ids);
    for (const char* name : {"messages", "conversations"}) {
      const Json* turns = member(record, name);
      if (turns != nullptr && is_conversation(*turns)) return rendered(*turns, record, options);
    }
  }
  std::vector<std::string> columns;
  for (const auto& [key, value] : record.items()) columns.push_back(key);
  return missing_column(options.text_column, columns);
}

}  // namespace nibble
