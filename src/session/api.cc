// SPDX-License-Identifier: Apache-2.0
// The public interface (include/nibble/nibble.h) over Job. Exceptions end here.
#include <exception>

#include "base/json.h"
#include "nibble/nibble.h"
#include "session/job.h"
#include "session/version.h"

namespace nibble {
namespace {

class ListenerSink final : public EventSink {
 public:
  ListenerSink(Listener* listener, StopToken& stop) : listener_(listener), stop_(stop) {}

  void on_event(const Event& event) override {
    if (event.kind == Event::Kind::kWarning) warnings.push_back(event.text);
    if (!listener_) return;
    if (listener_->should_stop()) stop_.request_stop();
    switch (event.kind) {
      case Event::Kind::kPhase:
        return listener_->on_phase(event.name);
      case Event::Kind::kProgress:
        return listener_->on_progress(event.name, event.done, event.total);
      case Event::Kind::kNote:
        return listener_->on_note(event.text);
      case Event::Kind::kWarning:
        return listener_->on_warning(event.text);
      default:
        return;
    }
  }

  std::vector<std::string> warnings;

 private:
  Listener* listener_;
  StopToken& stop_;
};

Outcome failure(const Error& error, std::vector<std::string> warnings) {
  Outcome outcome;
  outcome.code = static_cast<int>(error.code);
  outcome.error = error.where.empty() ? error.what : error.where + ": " + error.what;
  outcome.hint = error.hint;
  outcome.warnings = std::move(warnings);
  return outcome;
}

Outcome success(const RunReport& report, const Json& json, std::vector<std::string> warnings) {
  Outcome outcome;
  outcome.output_dir = report.output_dir;
  outcome.output_bytes = report.output_bytes;
  outcome.bits_per_weight = report.bits_per_weight();
  outcome.warnings = std::move(warnings);
  outcome.report_json = json.dump(2, ' ', false, Json::error_handler_t::replace);
  return outcome;
}

Outcome execute(const Options& options, Listener* listener) {
  StopToken stop;
  ListenerSink sink(listener, stop);
  try {
    ThreadPool pool(options.threads);
    Context context{pool, sink, stop};
    const auto job = Job::prepare(options, context);
    if (!job.ok()) return failure(job.error(), std::move(sink.warnings));
    if (options.dry_run) return success((*job)->planned(), plan_json(**job), std::move(sink.warnings));
    const auto report = (*job)->run(context);
    if (!report.ok()) return failure(report.error(), std::move(sink.warnings));
    return success(*report, to_json(*report), std::move(sink.warnings));
  } catch (const std::exception& error) {
    return failure(failed(std::string("out of memory or an internal error: ") + error.what()),
                   std::move(sink.warnings));
  }
}

}  // namespace

Outcome oneshot(const Options& options, Listener* listener) {
  return execute(options, listener);
}

Outcome plan(const Options& options, Listener* listener) {
  Options dry = options;
  dry.dry_run = true;
  return execute(dry, listener);
}

const char* version() {
  return library_version();
}

}  // namespace nibble
