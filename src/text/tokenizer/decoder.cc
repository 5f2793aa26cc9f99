// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/decoder.h"

#include <algorithm>

#include "text/tokenizer/components.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

using Made = Result<std::unique_ptr<Decoder>>;
using Tokens = std::vector<std::string>;

std::string join(const Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::size_t size_of(const Tokens& tokens) {
  std::size_t size = 0;
  for (const std::string& token : tokens) size += token.size();
  return size;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = from.empty() ? std::string::npos : text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  std::size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  text = std::move(out.append(text, done));
}

// A decoder that is a function of the token list, void or Status.
template <class Rule>
class ListDecoder final : public Decoder {
 public:
  explicit ListDecoder(Rule rule) : rule_(std::move(rule)) {}
  Status apply(Tokens& tokens) const override {
    if constexpr (std::is_void_v<decltype(rule_(tokens))>) {
      rule_(tokens);
      return {};
    } else {
      return rule_(tokens);
    }
  }

 private:
  Rule rule_;
};

template <class Rule>
Made list_decoder(Rule rule) {
  return std::unique_ptr<Decoder>(std::make_unique<ListDecoder<Rule>>(std::move(rule)));
}

Made make_byte_level(const Json&) {
  return list_decoder([](Tokens& tokens) {
    std::string all, bytes;
    for (const std::string& token : tokens) all += byte_level_to_bytes(token, bytes) ? bytes : token;
    tokens.assign(1, to_valid_utf8(all));
  });
}

// English punctuation as transformers tidies it; the order matters.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

Made make_word_piece(const Json& description) {
  TRY_ASSIGN(const std::string prefix, json_string_or(description, "prefix", "##"));
  TRY_ASSIGN(const bool cleanup, json_bool_or(description, "cleanup", true));
  return list_decoder([prefix, cleanup](Tokens& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 && tokens[i].starts_with(prefix)) {
        tokens[i].erase(0, prefix.size());
      } else if (i > 0) {
        tokens[i].insert(tokens[i].begin(), ' ');
      }
      if (cleanup) clean_up(tokens[i]);
    }
  });
}

Made make_metaspace(const Json& description) {
  TRY_ASSIGN(const char32_t replacement, json_char_or(description, "replacement", 0x2581));
  TRY_ASSIGN(const bool add_prefix, json_bool_or(description, "add_prefix_space", true));
  TRY_ASSIGN(const std::string scheme,
             json_string_or(description, "prepend_scheme", add_prefix ? "always" : "never"));
  std::string mark;
  append_utf8(mark, replacement);
  return list_decoder([mark, drops = scheme != "never"](Tokens& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], mark, i == 0 && drops ? "" : " ");
  });
}

// A run of byte tokens is one UTF-8 text, or one replacement character a byte.
Made make_byte_fallback(const Json&) {
  return list_decoder([](Tokens& tokens) {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (is_valid_utf8(bytes)) {
        out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const int byte = byte_of_token(token); byte >= 0) {
        bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  });
}

Made make_fuse(const Json&) {
  return list_decoder([](Tokens& tokens) { tokens.assign(1, join(tokens)); });
}

Made make_strip(const Json& description) {
  TRY_ASSIGN(const char32_t content, json_char_or(description, "content", ' '));
  TRY_ASSIGN(const std::int64_t start, json_int_or(description, "start", 0));
  TRY_ASSIGN(const std::int64_t stop, json_int_or(description, "stop", 0));
  std::string mark;
  append_utf8(mark, content);
  return list_decoder([mark, start, stop](Tokens& tokens) {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::int64_t i = 0; i < start && rest.starts_with(mark); ++i) rest.remove_prefix(mark.size());
      for (std::int64_t i = 0; i < stop && rest.ends_with(mark); ++i) rest.remove_suffix(mark.size());
      if (rest.size() != token.size()) token = std::string(rest);
    }
  });
}

Made make_replace(const Json& description) {
  TRY_ASSIGN(Pattern pattern, Pattern::from_json(description, "pattern"));
  TRY_ASSIGN(std::string content, json_string(description, "content"));
  return list_decoder([pattern = std::move(pattern), content = std::move(content)](Tokens& tokens) -> Status {
    for (std::string& token : tokens) {
      std::string replaced;
      TRY(pattern.for_each(token, [&](std::size_t begin, std::size_t end, bool matched) {
        matched ? replaced += content : replaced.append(token, begin, end - begin);
      }));
      token = std::move(replaced);
    }
    return {};
  });
}

Made make_bpe(const Json& description) {
  TRY_ASSIGN(const std::string suffix, json_string_or(description, "suffix", "</w>"));
  return list_decoder([suffix](Tokens& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
  });
}

Made make_ctc(const Json& description) {
  TRY_ASSIGN(const std::string pad, json_string_or(description, "pad_token", "<pad>"));
  TRY_ASSIGN(const std::string delimiter, json_string_or(description, "word_delimiter_token", "|"));
  TRY_ASSIGN(const bool cleanup, json_bool_or(description, "cleanup", true));
  return list_decoder([pad, delimiter, cleanup](Tokens& tokens) {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& token : tokens) {
      replace_all(token, pad, "");
      if (!cleanup) continue;
      clean_up(token);
      replace_all(token, delimiter, " ");
    }
    std::erase_if(tokens, [](const std::string& token) { return token.empty(); });
  });
}

Made make_decoder_sequence(const Json& description) {
  TRY_ASSIGN(auto steps, make_sequence<Decoder>(description, "decoders", make_decoder));
  return list_decoder([steps = std::move(steps)](Tokens& tokens) -> Status {
    const std::size_t most = 4096 + 256 * size_of(tokens);
    for (const auto& step : steps) {
      TRY(step->apply(tokens));
      if (size_of(tokens) > most)
        return bad_data(fmt::format("the decoder grows the text beyond {} bytes", most));
    }
    return {};
  });
}

constexpr Maker<Decoder> kMakers[] = {
    {"ByteLevel", make_byte_level},
    {"WordPiece", make_word_piece},
    {"Metaspace", make_metaspace},
    {"ByteFallback", make_byte_fallback},
    {"Fuse", make_fuse},
    {"Strip", make_strip},
    {"Replace", make_replace},
    {"BPEDecoder", make_bpe},
    {"CTC", make_ctc},
    {"SentencePiece", make_sentencepiece_decoder},
    {"Sequence", make_decoder_sequence},
};

}  // namespace

int byte_of_token(std::string_view token) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<std::unique_ptr<Decoder>> make_decoder(const Json& description) {
  return make_part<Decoder>(description, kMakers, "decoder");
}

}  // namespace nibble::text
