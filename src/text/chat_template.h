// SPDX-License-Identifier: Apache-2.0
// A model's chat template turns a conversation into text. The language is the part of Jinja2 that the
// templates of Llama, Mistral, Qwen, SmolLM, Gemma and Phi use, with the settings of transformers'
// apply_chat_template.
//
//   TRY_ASSIGN(const ChatTemplate chat, ChatTemplate::parse(tokenizer.chat_template()));
//   TRY_ASSIGN(const std::string text, chat.render({.messages = messages, .special_tokens =
//   special_tokens(tokenizer)}));
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/tokenizer.h"

namespace nibble {

namespace jinja {
struct Statement;
}

struct Conversation {
  const Json* messages = nullptr;  // [{"role": ..., "content": ...}, ...]
  const Json* tools = nullptr;     // null: none
  const Json* documents = nullptr;
  const Json* extra = nullptr;  // further variables: {"enable_thinking": false}
  bool add_generation_prompt = false;
  std::map<std::string, std::string> special_tokens{};  // "bos_token": "<s>"
  // What strftime_now() sees. A fixed day by default: the same conversation gives the same text tomorrow.
  std::optional<std::tm> now{};
};

class ChatTemplate {
 public:
  // The error has the line.
  static Result<ChatTemplate> parse(std::string_view source);
  Result<std::string> render(const Conversation& conversation) const;

 private:
  using Program = std::vector<jinja::Statement>;
  explicit ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

// bos_token and eos_token of a tokenizer, as templates call them.
std::map<std::string, std::string> special_token_names(const Tokenizer& tokenizer);

}  // namespace nibble
