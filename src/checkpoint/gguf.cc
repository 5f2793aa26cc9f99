// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace nibble {

constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxNameLength = 65535;
constexpr int kMaxArrayDepth = 4;
constexpr std::uint32_t kMaxDimensions = 4;

namespace {

struct ValueTypeRow {
  GgufValueType type;
  std::string_view name;
  std::uint64_t bytes;  // of a number; the least of anything else
};

constexpr ValueTypeRow kValueTypes[] = {
    {GgufValueType::kU8, "u8", 1},         {GgufValueType::kI8, "i8", 1},
    {GgufValueType::kU16, "u16", 2},       {GgufValueType::kI16, "i16", 2},
    {GgufValueType::kU32, "u32", 4},       {GgufValueType::kI32, "i32", 4},
    {GgufValueType::kF32, "f32", 4},       {GgufValueType::kBool, "bool", 1},
    {GgufValueType::kString, "string", 8}, {GgufValueType::kArray, "array", 12},
    {GgufValueType::kU64, "u64", 8},       {GgufValueType::kI64, "i64", 8},
    {GgufValueType::kF64, "f64", 8},
};

const ValueTypeRow& row(GgufValueType type) {
  return kValueTypes[static_cast<std::size_t>(type)];
}

}  // namespace

std::string_view to_string(GgufValueType type) {
  return row(type).name;
}

// Reads a file from front to back. Nothing is trusted: take() is the only way to get bytes.
class GgufParser {
 public:
  explicit GgufParser(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Status parse(GgufFile& file) {
    file.bytes_ = bytes_;
    TRY(read_preamble(file));
    for (std::uint64_t i = 0; i < value_count_; ++i)
      TRY(read_entry(file).at(fmt::format("metadata entry {}", i)));
    for (std::uint64_t i = 0; i < tensor_count_; ++i) {
      TRY(read_tensor(file).at(fmt::format("tensor description {}", i)));
    }
    return place_tensors(file);
  }

 private:
  std::uint64_t left() const { return bytes_.size() - position_; }

  Result<std::span<const std::byte>> take(std::uint64_t count, std::string_view what) {
    if (count > left()) {
      return bad_data(fmt::format("the {} needs {} bytes, but the file ends after {}", what, count, left()),
                      "the file is damaged or cut short");
    }
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  Result<T> number(std::string_view what) {
    TRY_ASSIGN(const auto raw, take(sizeof(T), what));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }

  Result<std::string_view> text(std::string_view what, std::uint64_t limit) {
    TRY_ASSIGN(const auto length, number<std::uint64_t>(what));
    if (length > limit)
      return bad_data(fmt::format("the {} has {} bytes, at most {} are allowed", what, length, limit));
    TRY_ASSIGN(const auto raw, take(length, what));
    return std::string_view(reinterpret_cast<const char*>(raw.data()), raw.size());
  }

  Result<GgufValueType> value_type(std::string_view what) {
    TRY_ASSIGN(const auto id, number<std::uint32_t>(what));
    if (id < std::size(kValueTypes)) return static_cast<GgufValueType>(id);
    return bad_data(
        fmt::format("the {} {} does not exist; types are 0 to {}", what, id, std::size(kValueTypes) - 1));
  }

  Status read_preamble(GgufFile& file) {
    TRY_ASSIGN(const auto magic, take(4, "magic"));
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) return bad_data("the file does not begin with \"GGUF\"");
    TRY_ASSIGN(file.version_, number<std::uint32_t>("version"));
    if ((file.version_ & 0xffffu) == 0 && file.version_ != 0) {
      return bad_data("the file is big-endian, which is not supported",
                      "convert it with gguf-py: gguf-convert-endian");
    }
    if (file.version_ != 2 && file.version_ != 3) {
      return bad_data(fmt::format("GGUF version {} is not known; versions 2 and 3 are", file.version_));
    }
    TRY_ASSIGN(tensor_count_, number<std::uint64_t>("tensor count"));
    TRY_ASSIGN(value_count_, number<std::uint64_t>("metadata count"));
    constexpr std::uint64_t kLeastEntry = 8 + 4 + 1;       // key length, type, value
    constexpr std::uint64_t kLeastTensor = 8 + 4 + 4 + 8;  // name length, dimensions, type, offset
    if (value_count_ > left() / kLeastEntry || tensor_count_ > left() / kLeastTensor) {
      return bad_data(fmt::format("{} tensors and {} metadata entries are claimed, but only {} bytes follow",
                                  tensor_count_, value_count_, left()),
                      "the file is damaged or cut short");
    }
    return {};
  }

  Status read_entry(GgufFile& file) {
    TRY_ASSIGN(const std::string_view key, text("key", kMaxNameLength));
    GgufValue value;
    TRY(read_value(value).at(fmt::format("key {:?}", key)));
    if (!file.by_key_.emplace(key, file.metadata_.size()).second) {
      return bad_data(fmt::format("the key {:?} stands twice", key));
    }
    file.metadata_.emplace_back(key, value);
    return {};
  }

  Status read_value(GgufValue& value) {
    TRY_ASSIGN(value.type, value_type("value type"));
    if (value.type != GgufValueType::kArray) return read_scalar(value.type, value.bytes);
    return read_array(value, 1);
  }

  Status read_scalar(GgufValueType type, std::span<const std::byte>& bytes) {
    if (type == GgufValueType::kString) {
      TRY_ASSIGN(const std::string_view content, text("string", std::numeric_limits<std::uint64_t>::max()));
      bytes = std::as_bytes(std::span(content.data(), content.size()));
      return {};
    }
    TRY_ASSIGN(bytes, take(row(type).bytes, "value"));
    if (type == GgufValueType::kBool && std::to_integer<int>(bytes[0]) > 1) {
      return bad_data(fmt::format("a boolean must be 0 or 1, found {}", std::to_integer<int>(bytes[0])));
    }
    return {};
  }

  Status read_array(GgufValue& value, int depth) {
    if (depth > kMaxArrayDepth)
      return bad_data(fmt::format("arrays are nested deeper than {} levels", kMaxArrayDepth));
    TRY_ASSIGN(value.element, value_type("array element type"));
    TRY_ASSIGN(value.count, number<std::uint64_t>("array length"));
    const std::uint64_t least = row(value.element).bytes;
    if (value.count > left() / least) {
      return bad_data(fmt::format("an array of {} values of type {} is claimed, but only {} bytes follow",
                                  value.count, to_string(value.element), left()),
                      "the file is damaged or cut short");
    }
    const std::uint64_t begin = position_;
    if (value.element == GgufValueType::kString || value.element == GgufValueType::kArray) {
      GgufValue ignored;
      for (std::uint64_t i = 0; i < value.count; ++i) {
        TRY(value.element == GgufValueType::kString ? read_scalar(value.element, ignored.bytes)
                                                    : read_array(ignored, depth + 1));
      }
    } else {
      TRY_ASSIGN(const auto skipped, take(value.count * least, "array"));
      static_cast<void>(skipped);
    }
    value.bytes = bytes_.subspan(begin, position_ - begin);
    return {};
  }

  Status read_tensor(GgufFile& file) {
    GgufTensor tensor;
    TRY_ASSIGN(const std::string_view name, text("tensor name", kMaxNameLength));
    tensor.name = name;
    TRY(read_layout(tensor).at(fmt::format("tensor {:?}", name)));
    if (!file.by_name_.emplace(tensor.name, file.tensors_.size()).second) {
      return Error(bad_data("the name stands twice")).add_context(fmt::format("tensor {:?}", name));
    }
    file.tensors_.push_back(std::move(tensor));
    return {};
  }

  Status read_layout(GgufTensor& tensor) {
    TRY_ASSIGN(const auto rank, number<std::uint32_t>("number of dimensions"));
    if (rank > kMaxDimensions) {
      return bad_data(fmt::format("{} dimensions; the format allows {}", rank, kMaxDimensions));
    }
    std::uint64_t elements = 1;
    std::uint64_t bound = 1;
    for (std::uint32_t i = 0; i < rank; ++i) {
      TRY_ASSIGN(const auto extent, number<std::uint64_t>("dimension"));
      // Empty extents count as one here, so that no partial product of an accepted shape overflows in any
      // order.
      if (__builtin_mul_overflow(bound, std::max<std::uint64_t>(extent, 1), &bound) ||
          bound > std::uint64_t{1} << 60) {
        return bad_data("the product of the dimensions does not fit into 60 bits");
      }
      elements *= extent;
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(extent));
    }
    TRY_ASSIGN(const auto type_id, number<std::uint32_t>("tensor type"));
    tensor.type = find_gguf_type(type_id);
    if (tensor.type == nullptr) {
      return bad_data(fmt::format("tensor type {} does not exist or was removed from the format", type_id));
    }
    const std::int64_t row_length = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row_length % tensor.type->block_size != 0) {
      return bad_data(fmt::format("rows of {} elements are not whole blocks of {} ({})", row_length,
                                  tensor.type->block_size, tensor.type->name));
    }
    TRY_ASSIGN(tensor.bytes, gguf_bytes(*tensor.type, elements));
    TRY_ASSIGN(tensor.offset,
               number<std::uint64_t>("tensor offset"));  // relative to the data section until placed
    return {};
  }

  // Offsets become absolute; every tensor must lie inside the file, aligned, and apart from the others.
  Status place_tensors(GgufFile& file) {
    TRY_ASSIGN(const std::int64_t alignment,
               file.integer_or("general.alignment", static_cast<std::int64_t>(kDefaultAlignment)));
    if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment)) ||
        static_cast<std::uint64_t>(alignment) > kMaxAlignment) {
      return bad_data(fmt::format("general.alignment is {}; it must be a power of two up to {}", alignment,
                                  kMaxAlignment));
    }
    const auto align = static_cast<std::uint64_t>(alignment);
    const std::uint64_t data_begin = (position_ + align - 1) / align * align;
    for (GgufTensor& tensor : file.tensors_)
      TRY(place(tensor, data_begin, align).at(fmt::format("tensor {:?}", tensor.name)));
    return check_apart(file.tensors_);
  }

  Status place(GgufTensor& tensor, std::uint64_t data_begin, std::uint64_t align) const {
    if (tensor.offset % align != 0) {
      return bad_data(fmt::format("the offset {} is no multiple of the alignment {}", tensor.offset, align));
    }
    const std::uint64_t available = bytes_.size() > data_begin ? bytes_.size() - data_begin : 0;
    if (tensor.bytes > 0 && (tensor.offset > available || tensor.bytes > available - tensor.offset)) {
      return bad_data(
          fmt::format("its data would be {} bytes at offset {}, but the file holds {} bytes of data",
                      tensor.bytes, tensor.offset, available),
          "the file is damaged or cut short");
    }
    tensor.offset = tensor.bytes > 0 ? tensor.offset + data_begin : bytes_.size();
    return {};
  }

  static Status check_apart(const std::vector<GgufTensor>& tensors) {
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& tensor : tensors) {
      if (tensor.bytes > 0) order.push_back(&tensor);
    }
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i]->offset >= order[i - 1]->offset + order[i - 1]->bytes) continue;
      return Error(bad_data(fmt::format("its data overlap those of tensor {:?}", order[i - 1]->name)))
          .add_context(fmt::format("tensor {:?}", order[i]->name));
    }
    return {};
  }

  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t value_count_ = 0;
};

Result<std::shared_ptr<const GgufFile>> GgufFile::parse(std::span<const std::byte> bytes) {
  static_assert(std::endian::native == std::endian::little, "GGUF numbers are copied as they stand");
  std::shared_ptr<GgufFile> file(new GgufFile);
  TRY(GgufParser(bytes).parse(*file));
  return std::shared_ptr<const GgufFile>(std::move(file));
}

Result<std::shared_ptr<const GgufFile>> GgufFile::open(const std::filesystem::path& path) {
  TRY_ASSIGN(std::shared_ptr<const MappedFile> mapped, MappedFile::open(path));
  std::shared_ptr<GgufFile> file(new GgufFile);
  file->path_ = path;
  TRY(GgufParser(mapped->bytes()).parse(*file).at(fmt::format("file {}", path.string())));
  file->mapped_ = std::move(mapped);
  return std::shared_ptr<const GgufFile>(std::move(file));
}

const GgufTensor* GgufFile::tensor(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = by_key_.find(std::string(key));
  return found == by_key_.end() ? nullptr : &metadata_[found->second].second;
}

}  // namespace nibble
