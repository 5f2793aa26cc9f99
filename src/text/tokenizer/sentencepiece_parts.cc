// SPDX-License-Identifier: Apache-2.0
// What SentencePiece does around its model (normalizer.cc and Decode of sentencepiece_processor.cc there), as
// a normalizer and a decoder of the type "SentencePiece".
#include <algorithm>
#include <set>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/components.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

struct Options {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
};

Result<Options> read_options(const Json& description) {
  Options options;
  TRY_ASSIGN(options.add_dummy_prefix, json_bool_or(description, "add_dummy_prefix", true));
  TRY_ASSIGN(options.remove_extra_whitespaces, json_bool_or(description, "remove_extra_whitespaces", true));
  TRY_ASSIGN(options.escape_whitespaces, json_bool_or(description, "escape_whitespaces", true));
  TRY_ASSIGN(options.whitespace_as_suffix, json_bool_or(description, "treat_whitespace_as_suffix", false));
  return options;
}

Result<std::vector<std::string>> read_strings(const Json& description, const char* key) {
  std::vector<std::string> strings;
  const auto list = description.find(key);
  if (list == description.end()) return strings;
  if (!list->is_array()) return bad_data(fmt::format("\"{}\" must be an array", key));
  for (const Json& item : *list) {
    if (!item.is_string()) return bad_data(fmt::format("\"{}\" must be an array of strings", key));
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

class SentencePieceNormalizer final : public Normalizer {
 public:
  SentencePieceNormalizer(Options options, Charsmap map, const std::vector<std::string>& symbols)
      : options_(options), map_(std::move(map)), space_(options.escape_whitespaces ? kMeta : " ") {
    std::vector<std::pair<std::string_view, TokenId>> keys;
    for (const std::string& symbol : symbols) keys.emplace_back(symbol, 0);
    symbols_ = ByteTrie(std::move(keys));
  }

  Status apply(TrackedText& text) const override {
    const std::string& bytes = text.bytes;
    std::size_t at = 0;
    if (options_.remove_extra_whitespaces) {
      for (Mapped m = map_at(bytes, at); at < bytes.size() && m.to == " "; m = map_at(bytes, at))
        at += m.length;
    }
    Rewriter out(text);
    if (at < bytes.size()) {
      const bool prefix = options_.add_dummy_prefix && !options_.whitespace_as_suffix;
      if (prefix) out.put_before(space_, at);
      rewrite(bytes, at, out);
      if (options_.remove_extra_whitespaces) out.drop_suffixes(space_);
      if (options_.add_dummy_prefix && options_.whitespace_as_suffix) out.insert(space_);
    }
    out.finish();
    return {};
  }

 private:
  struct Mapped {
    std::string_view to;
    std::size_t length;  // of what it stands for
  };

  // User-defined symbols stay as they are; then the longest rule of the map; then the character itself.
  Mapped map_at(const std::string& bytes, std::size_t at) const {
    const std::string_view rest = std::string_view(bytes).substr(at);
    if (rest.empty()) return {"", 0};
    std::size_t symbol = 0;
    symbols_.prefixes(rest, [&](std::size_t length, TokenId) { symbol = length; });
    if (symbol > 0) return {rest.substr(0, symbol), symbol};
    if (const auto match = map_.longest(rest)) return {match->replacement, match->length};
    const std::size_t length = char_length(rest[0]);
    return {rest.substr(0, length), length};
  }

  void rewrite(const std::string& bytes, std::size_t at, Rewriter& out) const {
    bool after_space = options_.remove_extra_whitespaces;
    while (at < bytes.size()) {
      const Mapped mapped = map_at(bytes, at);
      std::string_view to = mapped.to;
      while (after_space && to.starts_with(' ')) to.remove_prefix(1);
      for (std::size_t done = 0; done < to.size();) {
        const std::size_t space = std::min(to.find(' ', done), to.size());
        if (space > done) out.put(to.substr(done, space - done), at, at + mapped.length);
        if (space < to.size()) out.put(space_, at, at + mapped.length);
        done = space + 1;
      }
      if (!to.empty()) after_space = options_.remove_extra_whitespaces && to.ends_with(' ');
      at += mapped.length;
    }
  }

  Options options_;
  Charsmap map_;
  std::string_view space_;
  ByteTrie symbols_;
};

// Each invalid byte of a run of byte pieces becomes a replacement character of its own.
std::string decode_byte_run(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const std::size_t valid = valid_utf8_prefix(bytes);
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    append_utf8(text, kReplacement);
    bytes.remove_prefix(1);
  }
  return text;
}

class SentencePieceDecoder final : public Decoder {
 public:
  SentencePieceDecoder(Options options, std::set<std::string> control, std::string unk,
                       std::string unk_surface)
      : options_(options),
        control_(std::move(control)),
        unk_(std::move(unk)),
        unk_surface_(std::move(unk_surface)) {}

  Status apply(std::vector<std::string>& tokens) const override {
    std::string text, run;
    bool at_start = true, took_space = false;
    const auto flush = [&] {
      text += decode_byte_run(run);
      run.clear();
    };
    for (const std::string& token : tokens) {
      if (const int byte = byte_of_token(token); byte >= 0) {
        run.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        continue;
      }
      flush();
      if (took_space || !text.empty()) at_start = false;
      took_space = append_piece(token, at_start, text);
    }
    flush();
    tokens.assign(1, std::move(text));
    return {};
  }

 private:
  // True when the space that add_dummy_prefix had put there was taken away.
  bool append_piece(std::string_view piece, bool at_start, std::string& text) const {
    if (control_.contains(std::string(piece))) return false;
    if (piece == unk_) {
      text += unk_surface_;
      return false;
    }
    bool took_space = false;
    if (at_start && (options_.add_dummy_prefix || options_.remove_extra_whitespaces) &&
        piece.starts_with(kMeta)) {
      piece.remove_prefix(kMeta.size());
      took_space = !options_.remove_extra_whitespaces;
    }
    for (std::size_t at = piece.find(kMeta); at != std::string_view::npos; at = piece.find(kMeta)) {
      text.append(piece.substr(0, at)).append(1, ' ');
      piece.remove_prefix(at + kMeta.size());
    }
    text.append(piece);
    return took_space;
  }

  Options options_;
  std::set<std::string> control_;
  std::string unk_, unk_surface_;
};

}  // namespace

Result<std::unique_ptr<Normalizer>> make_sentencepiece_normalizer(const Json& description) {
  TRY_ASSIGN(const Options options, read_options(description));
  TRY_ASSIGN(const std::string encoded, json_string_or(description, "precompiled_charsmap", ""));
  TRY_ASSIGN(const std::string blob, decode_base64(encoded).at("precompiled_charsmap"));
  TRY_ASSIGN(Charsmap map, Charsmap::parse(blob));
  TRY_ASSIGN(const std::vector<std::string> symbols, read_strings(description, "symbols"));
  return std::unique_ptr<Normalizer>(
      std::make_unique<SentencePieceNormalizer>(options, std::move(map), symbols));
}

Result<std::unique_ptr<Decoder>> make_sentencepiece_decoder(const Json& description) {
  TRY_ASSIGN(const Options options, read_options(description));
  TRY_ASSIGN(const std::vector<std::string> control, read_strings(description, "control"));
  TRY_ASSIGN(std::string unk, json_string_or(description, "unk", "<unk>"));
  TRY_ASSIGN(std::string surface, json_string_or(description, "unk_surface", " \xE2\x81\x87 "));
  return std::unique_ptr<Decoder>(std::make_unique<SentencePieceDecoder>(
      options, std::set<std::string>(control.begin(), control.end()), std::move(unk), std::move(surface)));
}

}  // namespace nibble::text
