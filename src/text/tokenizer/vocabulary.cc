// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = bytes.size();
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t a = 0, b = 0;
  for (; left > 16; left -= 16, at += 16) {
    std::memcpy(&a, at, 8);
    std::memcpy(&b, at + 8, 8);
    hash = mix(a ^ hash, b);
  }
  a = b = 0;
  if (left >= 8) {
    std::memcpy(&a, at, 8);
    std::memcpy(&b, at + left - 8, 8);
  } else if (left >= 4) {
    std::memcpy(&a, at, 4);
    std::memcpy(&b, at + left - 4, 4);
  } else if (left > 0) {
    std::memcpy(&a, at, left);  // 1 to 3 bytes; the length is part of the hash
  }
  return mix(a ^ hash, b);
}

Status Vocabulary::add(std::string_view token, std::int64_t id, Repeat repeat) {
  if (id < 0 || id > kMaxTokenId) {
    return bad_data(fmt::format("the id {} of the token \"{}\" is outside 0..{}", id, token, kMaxTokenId));
  }
  if (!is_valid_utf8(token)) return bad_data(fmt::format("the text of the token {} is not valid UTF-8", id));
  if (arena_.size() + token.size() >= kHole) return bad_data("the texts of the tokens take more than 4 GB");
  const auto index = static_cast<std::size_t>(id);
  if (index < entries_.size() && entries_[index].length != kHole) {
    return bad_data(fmt::format("the tokens \"{}\" and \"{}\" have the same id {}",
                                text(static_cast<TokenId>(id)), token, id));
  }
  if ((used_ + 1) * 3 > table_.size() * 2) grow_table();
  Slot& slot = slot_of(token, hash_bytes(token));
  if (slot.id != kNoToken && repeat == Repeat::kRefuse) {
    return bad_data(fmt::format("the token \"{}\" stands twice in the vocabulary, with ids {} and {}", token,
                                slot.id, id));
  }
  if (slot.id == kNoToken) ++used_;
  slot = {static_cast<std::uint32_t>(hash_bytes(token) >> 32), static_cast<TokenId>(id)};
  if (index >= entries_.size()) entries_.resize(index + 1);
  entries_[index] = {static_cast<std::uint32_t>(arena_.size()), static_cast<std::uint32_t>(token.size())};
  arena_.append(token);
  ++count_;
  return {};
}

TokenId Vocabulary::find(std::string_view token) const {
  if (table_.empty()) return kNoToken;
  return const_cast<Vocabulary*>(this)->slot_of(token, hash_bytes(token)).id;  // slot_of does not write
}

std::string_view Vocabulary::text(TokenId id) const {
  if (!has(id)) return {};
  const Entry& entry = entries_[static_cast<std::size_t>(id)];
  return std::string_view(arena_).substr(entry.offset, entry.length);
}

Vocabulary::Slot& Vocabulary::slot_of(std::string_view token, std::uint64_t hash) {
  const std::size_t mask = table_.size() - 1;
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  std::size_t i = hash & mask;
  while (table_[i].id != kNoToken && !(table_[i].tag == tag && text(table_[i].id) == token))
    i = (i + 1) & mask;
  return table_[i];
}

void Vocabulary::grow_table() {
  std::vector<Slot> old(std::max<std::size_t>(64, table_.size() * 2));
  old.swap(table_);
  for (const Slot& slot : old) {
    if (slot.id != kNoToken) slot_of(text(slot.id), hash_bytes(text(slot.id))) = slot;
  }
}

}  // namespace nibble::text
