// SPDX-License-Identifier: Apache-2.0
#include "text/byte_source.h"

#include <fmt/format.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

namespace nibble {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;
constexpr std::size_t kMaxLine = std::size_t{1} << 28;

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(std::FILE* file) : file_(file) {}
  ~PlainSource() override { std::fclose(file_); }
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;

  Result<std::size_t> read(std::span<char> out) override {
    const std::size_t count = std::fread(out.data(), 1, out.size(), file_);
    if (count == 0 && std::ferror(file_) != 0)
      return no_input(fmt::format("cannot be read: {}", std::strerror(errno)));
    return count;
  }

 private:
  std::FILE* file_;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<ByteSource> packed)
      : packed_(std::move(packed)), stream_(ZSTD_createDStream()), input_(kPiece) {
    if (stream_ == nullptr) throw std::bad_alloc();
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;

  Result<std::size_t> read(std::span<char> out) override {
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    while (target.pos == 0 && !out.empty()) {
      if (pending_.pos == pending_.size) {
        TRY_ASSIGN(const std::size_t count, packed_->read(input_));
        if (count == 0) {
          if (inside_frame_)
            return bad_data("the zstd stream ends in the middle of a frame", "was the download cut off?");
          return std::size_t{0};
        }
        pending_ = {input_.data(), count, 0};
      }
      const std::size_t state = ZSTD_decompressStream(stream_, &target, &pending_);
      if (ZSTD_isError(state) != 0) {
        return bad_data(fmt::format("the zstd stream is damaged: {}", ZSTD_getErrorName(state)));
      }
      inside_frame_ = state != 0;
    }
    return target.pos;
  }

 private:
  std::unique_ptr<ByteSource> packed_;
  ZSTD_DStream* stream_;
  std::vector<char> input_;
  ZSTD_inBuffer pending_{nullptr, 0, 0};
  bool inside_frame_ = false;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> ByteSource::open(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return no_input(fmt::format("cannot be opened: {}", std::strerror(errno)));
  std::unique_ptr<ByteSource> source = std::make_unique<PlainSource>(file);
  if (path.extension() != ".zst") return source;
  return std::unique_ptr<ByteSource>(std::make_unique<ZstdSource>(std::move(source)));
}

Result<std::optional<std::string>> LineReader::next() {
  std::size_t searched = begin_;
  while (true) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      const std::size_t last = end == std::string::npos ? buffer_.size() : end;
      std::string line = buffer_.substr(begin_, last - begin_);
      begin_ = end == std::string::npos ? last : end + 1;
      if (line.ends_with('\r')) line.pop_back();
      if (++line_number_ == 1 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
      return std::optional<std::string>(std::move(line));
    }
    if (at_end_) return std::optional<std::string>();
    buffer_.erase(0, std::exchange(begin_, 0));
    if (buffer_.size() > kMaxLine) {
      return bad_data(fmt::format("line {} is longer than {} bytes", line_number_ + 1, kMaxLine));
    }
    searched = buffer_.size();
    buffer_.resize(searched + kPiece);
    TRY_ASSIGN(const std::size_t count, source_->read(std::span(buffer_).subspan(searched)));
    buffer_.resize(searched + count);
    at_end_ = count == 0;
  }
}

Result<std::string> read_all(ByteSource& source, std::uint64_t limit) {
  std::string text;
  while (true) {
    const std::size_t size = text.size();
    if (size > limit) return bad_data(fmt::format("the text is larger than the limit of {} bytes", limit));
    text.resize(size + kPiece);
    TRY_ASSIGN(const std::size_t count, source.read(std::span(text).subspan(size)));
    text.resize(size + count);
    if (count == 0) return text;
  }
}

}  // namespace nibble
