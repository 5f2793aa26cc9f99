// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/strings.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "text/jinja/value.h"

namespace nibble::jinja {
namespace {

std::int32_t code_point(std::string_view character) {
  utf8proc_int32_t point = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(character.data());
  if (utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(character.size()), &point) < 0) return -1;
  return point;
}

// The characters that Python's str.isspace knows.
bool is_space_point(std::int32_t c) {
  return c == 0x20 || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

template <class Change>
std::string changed(std::string_view text, const Change& change) {
  std::string out;
  for (const std::string_view character : characters(text)) {
    const std::int32_t point = code_point(character);
    if (point < 0) {
      out += character;
    } else {
      append_utf8(out, static_cast<std::uint32_t>(change(point)));
    }
  }
  return out;
}

bool is_letter(std::int32_t point) {
  const utf8proc_category_t category = utf8proc_category(point);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool in_class(std::int32_t point, CharClass wanted) {
  const utf8proc_category_t category = utf8proc_category(point);
  switch (wanted) {
    case CharClass::kDigit:
      return category == UTF8PROC_CATEGORY_ND;
    case CharClass::kAlpha:
      return is_letter(point);
    case CharClass::kAlnum:
      return is_letter(point) || category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL;
    case CharClass::kSpace:
      return is_space_point(point);
    case CharClass::kUpper:
      return category == UTF8PROC_CATEGORY_LU;
    case CharClass::kLower:
      return category == UTF8PROC_CATEGORY_LL;
  }
  return false;
}

}  // namespace

void append_utf8(std::string& out, std::uint32_t point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
}

std::string strip(std::string_view text, std::optional<std::string_view> set, Side side) {
  const std::vector<std::string_view> all = characters(text);
  const std::vector<std::string_view> wanted = set ? characters(*set) : std::vector<std::string_view>();
  const auto goes = [&](std::string_view character) {
    return set ? std::find(wanted.begin(), wanted.end(), character) != wanted.end()
               : is_space_point(code_point(character));
  };
  std::size_t first = 0;
  std::size_t last = all.size();
  if (side != Side::kRight) {
    while (first < last && goes(all[first])) ++first;
  }
  if (side != Side::kLeft) {
    while (last > first && goes(all[last - 1])) --last;
  }
  if (first == last) return {};
  const char* begin = all[first].data();
  return std::string(begin, all[last - 1].data() + all[last - 1].size());
}

std::string upper(std::string_view text) {
  // The one common letter whose capital form is two.
  if (text.find("\u00df") != std::string_view::npos) return upper(replace(text, "\u00df", "SS", -1));
  return changed(text, [](std::int32_t c) { return utf8proc_toupper(c); });
}

std::string lower(std::string_view text) {
  return changed(text, [](std::int32_t c) { return utf8proc_tolower(c); });
}

std::string capitalize(std::string_view text) {
  bool first = true;
  return changed(text, [&](std::int32_t c) {
    return std::exchange(first, false) ? utf8proc_toupper(c) : utf8proc_tolower(c);
  });
}

std::string title(std::string_view text) {
  bool inside = false;
  return changed(text, [&](std::int32_t c) {
    const bool letter = is_letter(c);
    const bool was_inside = std::exchange(inside, letter);
    return !letter ? c : was_inside ? utf8proc_tolower(c) : utf8proc_toupper(c);
  });
}

std::string title_words(std::string_view text) {
  bool inside = false;
  return changed(text, [&](std::int32_t c) {
    const bool separator = is_space_point(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    const bool was_inside = std::exchange(inside, !separator);
    return separator ? c : was_inside ? utf8proc_tolower(c) : utf8proc_toupper(c);
  });
}

namespace {

std::vector<std::string> split_blanks(std::string_view text, std::int64_t most) {
  std::vector<std::string> parts;
  std::string rest = strip(text, std::nullopt, Side::kLeft);
  while (!rest.empty()) {
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most) {
      parts.push_back(std::move(rest));
      return parts;
    }
    std::size_t length = 0;
    for (const std::string_view character : characters(rest)) {
      if (is_space_point(code_point(character))) break;
      length += character.size();
    }
    parts.push_back(rest.substr(0, length));
    rest = strip(rest.substr(length), std::nullopt, Side::kLeft);
  }
  return parts;
}

}  // namespace

std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               std::int64_t most) {
  if (!separator) return split_blanks(text, most);
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t end = text.find(*separator, begin);
    if (end == std::string_view::npos) break;
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + separator->size();
  }
  parts.emplace_back(text.substr(begin));
  return parts;
}

std::vector<std::string> split_right(std::string_view text, std::optional<std::string_view> separator,
                                     std::int64_t most) {
  std::vector<std::string> parts = split(text, separator, -1);
  if (most < 0 || static_cast<std::int64_t>(parts.size()) <= most + 1) return parts;
  // The first parts, with the blanks between them, stay together.
  std::size_t end = text.size();
  if (!separator) end = strip(text, std::nullopt, Side::kRight).size();
  for (std::int64_t i = 0; i < most; ++i) {
    const std::size_t from_end = parts.size() - 1 - static_cast<std::size_t>(i);
    end -= parts[from_end].size();
    if (separator) {
      end -= separator->size();
    } else {
      end = strip(text.substr(0, end), std::nullopt, Side::kRight).size();
    }
  }
  std::vector<std::string> out{separator ? std::string(text.substr(0, end))
                                         : strip(text.substr(0, end), std::nullopt, Side::kLeft)};
  out.insert(out.end(), parts.end() - static_cast<std::ptrdiff_t>(most), parts.end());
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\n' && text[i] != '\r' && text[i] != '\v' && text[i] != '\f') continue;
    const std::size_t end = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n' ? i + 2 : i + 1;
    lines.emplace_back(text.substr(begin, (keep_ends ? end : i) - begin));
    begin = end;
    i = end - 1;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t most) {
  std::string out;
  std::int64_t done = 0;
  if (from.empty()) {  // between all characters, as Python does
    for (const std::string_view character : characters(text)) {
      if (most < 0 || done++ < most) out += to;
      out += character;
    }
    if (most < 0 || done < most) out += to;
    return out;
  }
  std::size_t begin = 0;
  while (most < 0 || done++ < most) {
    const std::size_t end = text.find(from, begin);
    if (end == std::string_view::npos) break;
    out.append(text.substr(begin, end - begin)).append(to);
    begin = end + from.size();
  }
  return out.append(text.substr(begin));
}

bool all_of_class(std::string_view text, CharClass wanted) {
  if (text.empty()) return false;
  if (wanted != CharClass::kUpper && wanted != CharClass::kLower) {
    const std::vector<std::string_view> all = characters(text);
    return std::all_of(all.begin(), all.end(),
                       [&](std::string_view c) { return in_class(code_point(c), wanted); });
  }
  // isupper: at least one cased character, and none of the other case.
  const CharClass other = wanted == CharClass::kUpper ? CharClass::kLower : CharClass::kUpper;
  bool found = false;
  for (const std::string_view character : characters(text)) {
    if (in_class(code_point(character), other)) return false;
    found = found || in_class(code_point(character), wanted);
  }
  return found;
}

std::optional<std::string> unescape(std::string_view body) {
  constexpr std::string_view kSimple = "abfnrtv\\'\"";
  constexpr std::string_view kMeaning = "\a\b\f\n\r\t\v\\'\"";
  std::string out;
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      out += body[i];
      continue;
    }
    const char c = body[++i];
    if (const std::size_t simple = kSimple.find(c); simple != std::string_view::npos) {
      out += kMeaning[simple];
    } else if (c == '\n') {
      continue;  // an escaped line end vanishes
    } else if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
      const bool octal = c >= '0' && c <= '7';
      std::size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      std::size_t first = i + 1;
      if (octal) {
        first = i;
        length = 1;
        while (length < 3 && i + length < body.size() && body[i + length] >= '0' && body[i + length] <= '7')
          ++length;
      }
      if (first + length > body.size()) return std::nullopt;
      const char* begin = body.data() + first;
      std::uint32_t point = 0;
      const auto parsed = std::from_chars(begin, begin + length, point, octal ? 8 : 16);
      if (parsed.ec != std::errc() || parsed.ptr != begin + length) return std::nullopt;
      if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return std::nullopt;
      append_utf8(out, point);
      i = first + length - 1;
    } else {
      out += {'\\', c};
    }
  }
  return out;
}

}  // namespace nibble::jinja
