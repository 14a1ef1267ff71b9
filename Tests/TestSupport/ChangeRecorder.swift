public import JobCore
import Synchronization

/// Keeps what a registry tells its recorder, for a test to look through.
public final class ChangeRecorder: JobRecorder {
    private struct State {
        var records: [Job] = []
        var lines: [(job: JobID, line: ReportLine)] = []
        var outputs: [CapturedOutput] = []
    }

    private let state = Mutex(State())
    private let didRecord: @Sendable (Job) -> Void

    /// An empty one.
    /// - Parameter didRecord: is told of each change as well; the registry is locked meanwhile.
    public init(didRecord: @escaping @Sendable (Job) -> Void = { _ in }) {
        self.didRecord = didRecord
    }

    /// The jobs after each change, in the order of the changes.
    public var records: [Job] { state.withLock(\.records) }

    /// What was written to reports.
    public var lines: [ReportLine] { state.withLock { $0.lines.map(\.line) } }

    /// What programs wrote, in the order in which they ended.
    public var outputs: [CapturedOutput] { state.withLock(\.outputs) }

    /// Takes note of a change.
    public func record(_ job: Job) {
        state.withLock { $0.records.append(job) }
        didRecord(job)
    }

    /// Takes note of a line.
    public func record(_ line: ReportLine, of job: JobID) {
        state.withLock { $0.lines.append((job, line)) }
    }

    /// Takes note of an output.
    public func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID) {
        state.withLock { $0.outputs.append(output) }
    }

    /// Returns at once.
    public func recorded(_ id: JobID) async {}

    /// The last state of a job; nil: unknown.
    public func job(_ id: JobID) -> Job? { records.last { $0.id == id } }

    /// The letters that a job has had.
    public func letters(of id: JobID) -> String {
        (job(id)?.statuses ?? []).map(\.letter.rawValue).joined()
    }

    /// The jobs that were opened, in the order in which they were.
    public var opened: [JobID] {
        var known: Set<JobID> = []
        return records.map(\.id).filter { known.insert($0).inserted }
    }

    /// The jobs that were closed, each as often as it was.
    public var closed: [Job] { records.filter { !$0.isOpen } }
}
