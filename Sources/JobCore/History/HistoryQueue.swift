/// The waiting writes of the history: the newest value of each job that has changed, and additions to reports and outputs.
///
/// It is bounded. Items without room are dropped and counted: lines of reports first, then outputs, then jobs that have ended while nothing can be
/// written. Open jobs are always kept: they are few, and a new file must contain them completely. So is the end of a job that the file has as open,
/// or the job would seem to run for ever, and the next start would repeat it.
struct HistoryQueue {
    /// The limits.
    struct Bound {
        /// Jobs that have ended.
        var ended = 10_000
        /// Lines and outputs.
        var pieces = 100_000
        /// Bytes of those.
        var bytes = 64 << 20
    }

    /// A part of a job that is stored separately from its record.
    struct Piece: Hashable {
        enum Content: Hashable {
            case line(ReportLine)
            case output(CapturedOutput, step: Int)
        }

        var job: JobID
        var content: Content

        fileprivate var isLine: Bool { if case .line = content { true } else { false } }

        fileprivate var size: Int {
            switch content {
            case .line(let line): line.text.utf8.count
            case .output(let output, _): output.head.count + output.tail.count
            }
        }
    }

    /// One transaction: jobs in the order in which they changed, then pieces in their order.
    struct Batch {
        var jobs: [Job]
        var pieces: [Piece]
        /// The open jobs that the file does not have as open yet.
        var opened: [JobID] = []
    }

    var bound = Bound()
    /// Open jobs, and those whose newest value is not in the file yet.
    private var jobs: [JobID: Job] = [:]
    private var changed: [JobID] = []
    private var isChanged: Set<JobID> = []
    /// How many of the changed jobs have ended.
    private var endedCount = 0
    /// Jobs that the file has as open, also those of previous runs, and jobs whose opening is being written.
    private var openInFile: Set<JobID> = []
    private var pieces: [Piece] = []
    private var bytes = 0
    private var isAnnounced = false
    private(set) var isClosed = false

    /// Dropped items that have not been reported yet.
    private(set) var dropped = 0
    /// Why nothing can be written at the moment, with the hint; callers must not wait for it then.
    var hindrance: String?

    /// - Parameter open: the jobs that the file has as open.
    /// - Returns: those of previous runs.
    mutating func interrupted(_ open: [Job]) -> [Job] {
        let interrupted = open.filter { jobs[$0.id] == nil }
        openInFile.formUnion(interrupted.map(\.id))
        return interrupted
    }

    // MARK: - In

    mutating func add(_ job: Job) { if !isClosed { keep(job) } }

    private mutating func keep(_ job: Job) {
        let before = isChanged.contains(job.id) ? jobs[job.id] : nil
        if !job.isOpen, before?.isOpen ?? true {
            guard endedCount < bound.ended || openInFile.contains(job.id) else {
                dropped += 1
                return forget(job.id)
            }
            endedCount += 1
        }
        jobs[job.id] = job
        if isChanged.insert(job.id).inserted { changed.append(job.id) }
    }

    mutating func add(_ piece: Piece) {
        guard !isClosed else { return }
        if !hasRoom(for: piece), !piece.isLine {
            let count = pieces.count
            pieces.removeAll { $0.isLine }
            dropped += count - pieces.count
            bytes = pieces.reduce(0) { $0 + $1.size }
        }
        guard hasRoom(for: piece) else {
            dropped += 1
            return
        }
        pieces.append(piece)
        bytes += piece.size
    }

    private func hasRoom(for piece: Piece) -> Bool {
        // A piece larger than the bound is accepted when nothing else waits.
        pieces.count < bound.pieces && (bytes + piece.size <= bound.bytes || bytes == 0)
    }

    private mutating func forget(_ id: JobID) {
        jobs[id] = nil
        if isChanged.remove(id) != nil { changed.removeAll { $0 == id } }
    }

    /// - Returns: whether to wake the writer; true once until it has found that nothing waits.
    mutating func announce() -> Bool {
        guard !isAnnounced, hasWork else { return false }
        isAnnounced = true
        return true
    }

    /// Later additions are ignored.
    mutating func close() { isClosed = true }

    // MARK: - Out

    private var hasWork: Bool { !changed.isEmpty || !pieces.isEmpty }

    /// Whether something waits, which the writer will try again; if not, the next addition wakes it.
    mutating func stillWaits() -> Bool {
        isAnnounced = hasWork
        return hasWork
    }

    /// Whether something waits or was dropped, and no notice has said so.
    var isIncomplete: Bool { hasWork || dropped > 0 }

    /// Everything that waits; nil when nothing does. Ends with ``wrote(_:)`` or ``putBack(_:)``.
    mutating func take() -> Batch? {
        guard hasWork else {
            isAnnounced = false
            return nil
        }
        defer { (changed, isChanged, endedCount, pieces, bytes) = ([], [], 0, [], 0) }
        return batch(changed, pieces)
    }

    /// The waiting state of these jobs with their pieces; nil when nothing of them waits. Ends with ``wrote(_:)`` or ``putBack(_:)``.
    mutating func take(_ ids: [JobID]) -> Batch? {
        let taken = ids.filter { isChanged.remove($0) != nil }
        guard !taken.isEmpty else { return nil }
        changed.removeAll { !isChanged.contains($0) }
        endedCount -= taken.count { jobs[$0]?.isOpen == false }
        // In the same transaction, so that no crash leaves a job that has ended without its output.
        let theirs = Set(taken)
        let own = pieces.filter { theirs.contains($0.job) }
        if !own.isEmpty {
            pieces.removeAll { theirs.contains($0.job) }
            bytes -= own.reduce(0) { $0 + $1.size }
        }
        return batch(taken, own)
    }

    private mutating func batch(_ ids: [JobID], _ pieces: [Piece]) -> Batch {
        var batch = Batch(jobs: ids.compactMap { jobs[$0] }, pieces: pieces)
        for job in batch.jobs {
            if !job.isOpen {
                jobs[job.id] = nil
            } else if openInFile.insert(job.id).inserted {
                batch.opened.append(job.id)
            }
        }
        return batch
    }

    /// A batch is in the file.
    mutating func wrote(_ batch: Batch) {
        for job in batch.jobs where !job.isOpen { openInFile.remove(job.id) }
    }

    /// A batch could not be written: its jobs wait again unless they have changed since, and its pieces are dropped.
    mutating func putBack(_ batch: Batch) {
        dropped += batch.pieces.count
        openInFile.subtract(batch.opened)
        let newer = changed
        (changed, isChanged, endedCount) = ([], [], 0)
        for job in batch.jobs { keep(jobs[job.id] ?? job) }
        for id in newer { if let job = jobs[id] { keep(job) } }
    }

    /// There is a new file: every open job is written again.
    mutating func rewrite() {
        for job in jobs.values.sorted(by: { $0.id < $1.id }) where isChanged.insert(job.id).inserted {
            changed.append(job.id)
        }
    }

    mutating func takeDropped() -> Int {
        defer { dropped = 0 }
        return dropped
    }
}
