import Synchronization
import SystemPackage

/// Collects what a run finds out, and tells the terminal how far it is. What was collected survives a part that fails.
final class Recorder: Sendable {
    private struct State {
        var measurements: [Measurement] = []
        var failures: [String] = []
        /// Samples for the plot of latencies, in milliseconds.
        var latencies: [(name: String, samples: Distribution)] = []
    }

    private let state = Mutex(State())
    private let begin = ContinuousClock.now

    var measurements: [Measurement] { state.withLock { $0.measurements } }
    var failures: [String] { state.withLock { $0.failures } }
    var latencies: [(name: String, samples: Distribution)] { state.withLock { $0.latencies } }

    func add(_ measurement: Measurement) {
        state.withLock { $0.measurements.append(measurement) }
        let words = [measurement.name, BenchReport.conditions(measurement), BenchReport.figures(measurement)]
        note(words.filter { !$0.isEmpty }.joined(separator: "  "))
    }

    func add(_ name: String, _ seconds: [Double], _ conditions: [String: Measurement.Condition] = [:]) {
        let samples = Distribution(seconds.map { $0 * 1_000 })
        state.withLock { $0.latencies.append((name, samples)) }
        var conditions = conditions
        conditions["samples"] = .number(seconds.count)
        add(
            Measurement(
                name, conditions,
                [
                    Figure.median: samples.median, Figure.highest: samples.percentile(0.99),
                    Figure.extreme: samples.percentile(0.999),
                ]))
    }

    func fail(_ what: String, _ error: any Error) {
        let line = "\(what): \(error)"
        state.withLock { $0.failures.append(line) }
        note("FAILED \(line)")
    }

    /// One line on standard error, with the time since the beginning.
    func note(_ line: String) {
        let seconds = Int((ContinuousClock.now - begin) / .seconds(1))
        do {
            try FileDescriptor.standardError.writeAll(Array("\(seconds) s  \(line)\n".utf8))
        } catch {
            // Nobody listens any more; the figures and the failures stand in the report all the same.
        }
    }
}
