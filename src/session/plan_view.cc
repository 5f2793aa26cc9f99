// SPDX-License-Identifier: Apache-2.0
// The plan for machines and for people.
#include <fmt/format.h>

#include "base/byte_size.h"
#include "base/json.h"
#include "session/job.h"

namespace nibble {

Json plan_json(const Job& job) {
  Json json = to_json(job.planned());
  json["estimate"] = {{"peak_memory_bytes", job.estimate().peak_memory_bytes},
                      {"seconds", job.estimate().seconds}};
  json["dropped_tensors"] = job.output().dropped;
  return json;
}

std::string plan_text(const Job& job) {
  const RunReport& plan = job.planned();
  std::string text = fmt::format("{} ({})\n\n", plan.model, plan.architecture);
  std::size_t width = 6;
  for (const ModuleRow& row : plan.modules) width = std::max(width, row.name.size());
  text += fmt::format("{:<{}}  {:<28} {:>12} {:>12} {:>8}\n", "module", width, "scheme", "weights", "bytes",
                      "bpw");
  for (const ModuleRow& row : plan.modules) {
    text += fmt::format("{:<{}}  {:<28} {:>12} {:>12} {:>8.3f}\n", row.name, width, row.scheme, row.weights,
                        row.bytes, row.bits_per_weight());
  }
  for (const std::string& name : plan.unquantized) text += fmt::format("{:<{}}  kept\n", name, width);
  text += "\n";
  for (const PatternCount& count : plan.patterns) {
    text += fmt::format("{} {}: {} modules\n", count.is_ignore ? "ignore" : "target", count.pattern,
                        count.matches);
  }
  text += fmt::format(
      "\n{} quantized modules, {:.3f} bits per weight; {} stay in {}\n"
      "source {} ({:.2f} bits per parameter), output exactly {} bytes ({}, {:.2f}); as 16-bit floats "
      "{}\npeak memory about {}, time about {:.1f} s on {} threads\n",
      plan.modules.size(), plan.bits_per_weight(), format_byte_size(plan.carried_bytes), plan.precision,
      format_byte_size(plan.source_bytes), plan.bits_per_parameter(plan.source_bytes), plan.output_bytes,
      format_byte_size(plan.output_bytes), plan.bits_per_parameter(plan.output_bytes),
      format_byte_size(2 * static_cast<std::uint64_t>(plan.parameters)),
      format_byte_size(job.estimate().peak_memory_bytes), job.estimate().seconds, plan.threads);
  return text;
}

}  // namespace nibble
