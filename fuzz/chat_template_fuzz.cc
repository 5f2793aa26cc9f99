// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template: an error or a text, within the limits of the renderer.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  static const Json messages = Json::parse(
      R"([{"role":"system","content":"s"},{"role":"user","content":"hi"},{"role":"assistant","content":null,)"
      R"("tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,true,null]}}}]}])");
  const auto chat = ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
  if (chat.ok()) {
    (void)chat->render(
        {.messages = &messages, .add_generation_prompt = true, .special_tokens = {{"bos_token", "<s>"}}});
  }
  return 0;
}
