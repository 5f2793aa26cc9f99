// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/building.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/json.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

std::string special_piece(std::string_view token, int type_id) {
  return fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":{}}}}})", json_text(token), type_id);
}

std::string sequence_piece(char name, int type_id) {
  return fmt::format(R"({{"Sequence":{{"id":"{}","type_id":{}}}}})", name, type_id);
}

std::string processing_json(const TokenizerSpec& spec, const std::vector<std::string>& single,
                            const std::vector<std::string>& pair, const std::set<std::string>& specials) {
  std::string table;
  for (const std::string& name : specials) {
    table += fmt::format(R"({}{}:{{"id":{},"ids":[{}],"tokens":[{}]}})", table.empty() ? "" : ",",
                         json_text(name), json_text(name), spec.model.vocabulary.find(name), json_text(name));
  }
  return fmt::format(R"({{"type":"TemplateProcessing","single":[{}],"pair":[{}],"special_tokens":{{{}}}}})",
                     fmt::join(single, ","), fmt::join(pair, ","), table);
}

}  // namespace

std::string json_text(std::string_view text) {
  return Json(std::string(text)).dump();
}

Status add_token(TokenizerSpec& spec, AddedToken token) {
  if (token.content.empty()) return {};
  Vocabulary& vocabulary = spec.model.vocabulary;
  const TokenId known = vocabulary.find(token.content);
  if (known == kNoToken) {
    if (token.id == kNoToken) token.id = vocabulary.end_id();
    TRY(vocabulary.add(token.content, token.id));
    if (spec.model.kind == ModelKind::kUnigram)
      spec.model.scores.resize(static_cast<std::size_t>(vocabulary.end_id()));
  } else {
    token.id = known;
  }
  const auto same = [&](const AddedToken& other) { return other.id == token.id; };
  if (std::none_of(spec.added_tokens.begin(), spec.added_tokens.end(), same)) {
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

std::string template_json(const TokenizerSpec& spec, const std::vector<std::string>& before,
                          const std::vector<std::string>& after) {
  std::vector<std::string> single, pair;
  for (int text = 0; text < 2; ++text) {
    for (const std::string& name : before) pair.push_back(special_piece(name, text));
    pair.push_back(sequence_piece(text == 0 ? 'A' : 'B', text));
    for (const std::string& name : after) pair.push_back(special_piece(name, text));
    if (text == 0) single = pair;
  }
  std::set<std::string> specials(before.begin(), before.end());
  specials.insert(after.begin(), after.end());
  return processing_json(spec, single, pair, specials);
}

std::string bert_template_json(const TokenizerSpec& spec, const std::string& cls, const std::string& sep) {
  const std::vector<std::string> single{special_piece(cls, 0), sequence_piece('A', 0), special_piece(sep, 0)};
  std::vector<std::string> pair = single;
  pair.push_back(sequence_piece('B', 1));
  pair.push_back(special_piece(sep, 1));
  return processing_json(spec, single, pair, {cls, sep});
}

std::string byte_level_json(std::string_view expression, bool add_prefix_space) {
  const std::string last =
      fmt::format(R"({{"type":"ByteLevel","add_prefix_space":{},"trim_offsets":true,"use_regex":{}}})",
                  add_prefix_space, expression.empty());
  if (expression.empty()) return last;
  return fmt::format(
      R"({{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}},{}]}})",
      json_text(expression), last);
}

std::vector<Merge> merges_of_ranked_tokens(const Vocabulary& vocabulary,
                                           const std::function<bool(TokenId)>& joins,
                                           const std::function<std::uint32_t(TokenId)>& rank) {
  std::vector<TokenId> order;
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    if (vocabulary.has(id) && joins(id)) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return rank(a) < rank(b); });
  std::vector<Merge> merges;
  for (const TokenId id : order) {
    const std::string_view text = vocabulary.text(id);
    const auto first = static_cast<std::ptrdiff_t>(merges.size());
    for (std::size_t cut = text.empty() ? 0 : char_length(text[0]); cut < text.size();
         cut += char_length(text[cut])) {
      const TokenId left = vocabulary.find(text.substr(0, cut));
      if (left == kNoToken || !joins(left)) continue;
      const TokenId right = vocabulary.find(text.substr(cut));
      if (right != kNoToken && joins(right)) merges.push_back({left, right, rank(id)});
    }
    std::sort(merges.begin() + first, merges.end(), [](const Merge& a, const Merge& b) {
      return a.left != b.left ? a.left < b.left : a.right < b.right;
    });
  }
  return merges;
}

std::vector<std::uint32_t> ranks_of_scores(const std::vector<double>& scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  std::vector<std::uint32_t> ranks(scores.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] < scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace nibble::text
