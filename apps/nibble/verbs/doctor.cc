// SPDX-License-Identifier: Apache-2.0
// nibble doctor: what this machine offers and what nibble makes of it.
#include <fmt/format.h>

#include <filesystem>

#include "base/byte_size.h"
#include "base/json.h"
#include "base/memory_budget.h"
#include "format.h"
#include "help.h"
#include "kernels/cpu_level.h"
#include "machine.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

std::int64_t count_models(const std::filesystem::path& cache) {
  std::int64_t models = 0;
  std::error_code status;
  for (std::filesystem::directory_iterator it(cache, status), end; !status && it != end; it.increment(status))
    models += it->path().filename().string().starts_with("models--") ? 1 : 0;
  return models;
}

Json describe(const Settings& settings, const Machine& machine, int threads) {
  Json levels = Json::array();
  for (const kernels::CpuLevel level : kernels::available_levels())
    levels.push_back(kernels::level_name(level));
  Json document{{"version", version_number()}, {"commit", version_commit()}};
  document["cpu"] = machine.cpu_name;
  document["cpu_level"] = kernels::level_name(kernels::active_level());
  document["cpu_levels"] = std::move(levels);
  document["cpus"] = machine.cpus_present;
  document["usable_cpus"] = machine.cpus_usable;
  document["threads"] = threads;
  document["numa_nodes"] = machine.numa_nodes;
  document["caches"] = Json::object();
  for (const auto& [name, bytes] : machine.caches) document["caches"][name] = bytes;
  document["memory_bytes"] = machine.memory_bytes;
  document["memory_available_bytes"] = machine.memory_available_bytes;
  document["memory_limit_bytes"] =
      machine.memory_limit_bytes ? Json(*machine.memory_limit_bytes) : Json(nullptr);
  document["memory_budget_bytes"] = default_memory_budget_bytes();
  document["hub_cache"] = settings.hub_cache.string();
  document["cached_models"] = count_models(settings.hub_cache);
#if defined(__clang__)
  document["compiler"] = __VERSION__;
#else
  document["compiler"] = "GCC " __VERSION__;
#endif
  return document;
}

std::string as_text(const Json& d) {
  std::string levels;
  for (const Json& level : d["cpu_levels"]) levels += (levels.empty() ? "" : ", ") + level.get<std::string>();
  Table table({"", ""});
  table.row({"nibble", fmt::format("{} (commit {}), built with {}", d["version"].get<std::string>(),
                                   d["commit"].get<std::string>(), d["compiler"].get<std::string>())});
  table.row({"CPU", d["cpu"].get<std::string>()});
  table.row({"CPU level",
             fmt::format("{} in use; this machine has {}", d["cpu_level"].get<std::string>(), levels)});
  table.row({"threads",
             fmt::format("{} ({} CPUs, {} usable, {} NUMA node(s))", d["threads"].get<int>(),
                         d["cpus"].get<int>(), d["usable_cpus"].get<int>(), d["numa_nodes"].get<int>())});
  std::string caches;
  for (const auto& [name, bytes] : d["caches"].items())
    caches += fmt::format("{}{} {} KiB", caches.empty() ? "" : ", ", name, bytes.get<std::uint64_t>() / 1024);
  table.row({"CPU caches", caches.empty() ? "unknown" : caches});
  table.row({"memory", fmt::format("{} installed, {} available",
                                   format_byte_size(d["memory_bytes"].get<std::uint64_t>()),
                                   format_byte_size(d["memory_available_bytes"].get<std::uint64_t>()))});
  table.row({"container limit", d["memory_limit_bytes"].is_null()
                                    ? std::string("none")
                                    : format_byte_size(d["memory_limit_bytes"].get<std::uint64_t>())});
  if (d.contains("memory_gb_per_s")) {
    table.row({"memory speed", fmt::format("{:.1f} GB/s (copy)", d["memory_gb_per_s"].get<double>())});
    table.row({"dense product", fmt::format("{:.0f} GFLOP/s fp32", d["gemm_gflop_per_s"].get<double>())});
    table.row({"balance", fmt::format("{:.1f} operations a byte: work with fewer waits for memory",
                                      d["flop_per_byte"].get<double>())});
  }
  table.row({"memory budget", fmt::format("{} unless --memory-budget says otherwise",
                                          format_byte_size(d["memory_budget_bytes"].get<std::uint64_t>()))});
  table.row({"model cache", fmt::format("{} ({} models)", d["hub_cache"].get<std::string>(),
                                        d["cached_models"].get<std::int64_t>())});
  const std::string text = table.text();
  return text.substr(text.find('\n') + 1);  // the table has no header
}

class Doctor final : public Verb {
 public:
  void add_flags(Flags& flags) override { flags.toggle("--quick", quick_, "do not measure speeds"); }

  Status run(Program& program) override {
    ThreadPool& pool = program.context().pool;
    Json document = describe(program.settings(), look_at_machine(), pool.size());
    if (!quick_) {
      const double bandwidth = measure_memory_bandwidth(pool);
      const double rate = measure_gemm_rate(pool);
      document["memory_gb_per_s"] = bandwidth / 1e9;
      document["gemm_gflop_per_s"] = rate / 1e9;
      document["flop_per_byte"] = rate / bandwidth;
    }
    return program.print(document, as_text(document));
  }

 private:
  bool quick_ = false;
};

}  // namespace

VerbEntry doctor_verb() {
  return {.name = "doctor",
          .usage = "[flags]",
          .summary = "what this machine offers: CPU level, cores, memory, measured speed",
          .detail = {},
          .examples = {"", "--json", "--cpu-level avx2"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Doctor>(); }};
}

}  // namespace nibble::app
