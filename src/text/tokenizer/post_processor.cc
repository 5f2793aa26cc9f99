// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/post_processor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/suggest.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/vocabulary.h"

namespace nibble::text {
namespace {

constexpr char32_t kByteLevelSpace = 0x120;  // how a space is written in the byte-level alphabet

Result<TokenId> checked_id(const Json& value) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
      value.get<std::int64_t>() > kMaxTokenId) {
    return bad_data(
        fmt::format("a token id must be an integer in 0..{}, found {:.40}", kMaxTokenId, value.dump()));
  }
  return value.get<TokenId>();
}

Status read_trimming(const Json& description, PostProcessor& out) {
  TRY_ASSIGN(out.trim_offsets, json_bool_or(description, "trim_offsets", true));
  TRY_ASSIGN(out.add_prefix_space, json_bool_or(description, "add_prefix_space", true));
  return {};
}

// ["</s>", 2]
Result<TokenId> token_pair(const Json& description, std::string_view key) {
  const auto found = description.find(std::string(key));
  if (found == description.end() || !found->is_array() || found->size() != 2) {
    return bad_data(fmt::format("\"{}\" must be a pair of a token and its id", key));
  }
  return checked_id((*found)[1]).at(key);
}

Status read_bert(const Json& description, PostProcessor& out) {
  TRY_ASSIGN(const TokenId sep, token_pair(description, "sep"));
  TRY_ASSIGN(const TokenId cls, token_pair(description, "cls"));
  out.single = {{{cls}, 0, 0}, {{}, 0, 0}, {{sep}, 0, 0}};
  out.pair = {{{cls}, 0, 0}, {{}, 0, 0}, {{sep}, 0, 0}, {{}, 1, 1}, {{sep}, 0, 1}};
  return {};
}

Status read_roberta(const Json& description, PostProcessor& out) {
  TRY_ASSIGN(const TokenId sep, token_pair(description, "sep"));
  TRY_ASSIGN(const TokenId cls, token_pair(description, "cls"));
  TRY(read_trimming(description, out));
  out.single = {{{cls}, 0, 0}, {{}, 0, 0}, {{sep}, 0, 0}};
  out.pair = {{{cls}, 0, 0}, {{}, 0, 0}, {{sep, sep}, 0, 0}, {{}, 1, 0}, {{sep}, 0, 0}};
  return {};
}

Result<std::vector<TokenId>> special_ids(const Json& description, const std::string& name) {
  const auto table = description.find("special_tokens");
  const bool known = table != description.end() && table->is_object() && table->contains(name);
  if (!known || !(*table)[name].is_object() || !(*table)[name].contains("ids") ||
      !(*table)[name]["ids"].is_array()) {
    return bad_data(fmt::format(
        "the template names the special token \"{}\", whose ids \"special_tokens\" does not give", name));
  }
  std::vector<TokenId> ids;
  for (const Json& value : (*table)[name]["ids"]) {
    TRY_ASSIGN(const TokenId id, checked_id(value));
    ids.push_back(id);
  }
  return ids;
}

Result<std::vector<TemplatePiece>> read_template(const Json& description, std::string_view key) {
  const auto list = description.find(std::string(key));
  if (list == description.end() || !list->is_array())
    return bad_data(fmt::format("\"{}\" must be an array", key));
  std::vector<TemplatePiece> pieces;
  for (const Json& item : *list) {
    const bool special = item.is_object() && item.contains("SpecialToken");
    if (!special && !(item.is_object() && item.contains("Sequence"))) {
      return bad_data("a template piece must be {\"SpecialToken\": ...} or {\"Sequence\": ...}");
    }
    const Json& body = item[special ? "SpecialToken" : "Sequence"];
    TemplatePiece piece;
    TRY_ASSIGN(const std::string name, json_string(body, "id"));
    TRY_ASSIGN(const std::int64_t type_id, json_int_or(body, "type_id", 0));
    piece.type_id = static_cast<std::int32_t>(std::clamp<std::int64_t>(type_id, 0, INT32_MAX));
    if (special) {
      TRY_ASSIGN(piece.special, special_ids(description, name));
      if (piece.special.empty()) continue;
    } else if (name != "A" && name != "B") {
      return bad_data(fmt::format("a sequence of a template must be A or B, found \"{}\"", name));
    }
    piece.sequence = name == "B" && !special ? 1 : 0;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Status read_template_processing(const Json& description, PostProcessor& out) {
  TRY_ASSIGN(out.single, read_template(description, "single").at("single"));
  TRY_ASSIGN(out.pair, read_template(description, "pair").at("pair"));
  const auto uses_second = [](const TemplatePiece& piece) {
    return piece.special.empty() && piece.sequence == 1;
  };
  if (std::any_of(out.single.begin(), out.single.end(), uses_second)) {
    return bad_data("the template for one text uses the sequence B");
  }
  return {};
}

struct ProcessorKind {
  std::string_view type;
  Status (*read)(const Json& description, PostProcessor& out);
  bool sets_template;
};
constexpr std::array<ProcessorKind, 4> kProcessorKinds = {
    {{"TemplateProcessing", read_template_processing, true},
     {"BertProcessing", read_bert, true},
     {"RobertaProcessing", read_roberta, true},
     {"ByteLevel", read_trimming, false}}};

Status read_any(const Json& description, PostProcessor& out, int& templates) {
  Result<std::string> named = json_string(description, "type");
  if (!named.ok()) return std::move(named).error();
  const std::string& type = *named;
  if (type == "Sequence") {
    const auto list = description.find("processors");
    if (list == description.end() || !list->is_array()) return bad_data("\"processors\" must be an array");
    for (const Json& item : *list) TRY(read_any(item, out, templates));
    return {};
  }
  const auto kind = std::find_if(kProcessorKinds.begin(), kProcessorKinds.end(),
                                 [&](const ProcessorKind& k) { return k.type == type; });
  if (kind == kProcessorKinds.end()) {
    std::vector<std::string> names{"Sequence"};
    for (const ProcessorKind& k : kProcessorKinds) names.emplace_back(k.type);
    return bad_data(fmt::format("unknown type \"{}\"; known are {}", type, join_or(names)),
                    did_you_mean(type, names));
  }
  if (kind->sets_template && ++templates > 1) {
    return bad_data("a Sequence with two post-processors that add special tokens is not supported");
  }
  return kind->read(description, out).at(type);
}

}  // namespace

Result<PostProcessor> make_post_processor(const Json& description) {
  PostProcessor out;
  if (description.is_null()) return out;
  int templates = 0;
  TRY(read_any(description, out, templates).at("post-processor"));
  return out;
}

TokenOffset trim_offset(TokenOffset offset, std::string_view token, bool is_first, bool add_prefix_space) {
  // Bytes of the text that a blank stands for; 0 when it is none.
  const auto blank = [](const DecodedChar& c) {
    return c.code == kByteLevelSpace ? 1 : is_space(c.code) ? c.length : 0;
  };
  std::uint32_t leading = 0, leading_bytes = 0, trailing_bytes = 0;
  for (std::size_t i = 0; i < token.size(); ++leading) {
    const DecodedChar c = decode_char(token.data() + i);
    if (blank(c) == 0) break;
    leading_bytes += blank(c);
    i += c.length;
  }
  for (std::string_view rest = token; !rest.empty();) {
    const DecodedChar c = decode_last_char(rest);
    if (blank(c) == 0) break;
    trailing_bytes += blank(c);
    rest.remove_suffix(c.length);
  }
  if (leading == 1 && add_prefix_space && (is_first || offset.begin == 0)) leading_bytes = 0;
  offset.begin = std::min(offset.begin + leading_bytes, offset.end);
  if (trailing_bytes > 0 && offset.end >= trailing_bytes) {
    offset.end = std::max(offset.end - trailing_bytes, offset.begin);
  }
  return offset;
}

}  // namespace nibble::text
