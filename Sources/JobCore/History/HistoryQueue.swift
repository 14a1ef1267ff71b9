/// What the history has to write: the newest value of each job that has changed, and what was added to reports and outputs. A pure value.
///
/// It is bounded. What finds no room is left out and counted: lines of reports first, then outputs, then jobs that have ended while nothing can be
/// written. Open jobs are always kept: they are few, and a history that is begun in the middle of the work has them whole.
struct HistoryQueue {
    /// How much waits at most.
    struct Bound {
        /// Jobs that have ended.
        var ended = 10_000
        /// Lines and outputs.
        var pieces = 100_000
        /// Bytes of those.
        var bytes = 64 << 20
    }

    /// A part of a job that is stored beside its record.
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

    /// What is written in one transaction: jobs in the order in which they changed first, then pieces in theirs.
    struct Batch {
        var jobs: [Job]
        var pieces: [Piece]
    }

    private let bound: Bound
    /// Open jobs, and those whose newest value is not in the file.
    private var jobs: [JobID: Job] = [:]
    private var changed: [JobID] = []
    private var isChanged: Set<JobID> = []
    /// Of the changed ones.
    private var endedCount = 0
    private var pieces: [Piece] = []
    private var bytes = 0
    private var isAnnounced = false
    private var isClosed = false

    /// What was left out and has not been told yet.
    private(set) var dropped = 0
    /// Nothing can be written just now, so nobody is to wait for it.
    var isHindered = false

    init(bound: Bound = Bound()) { self.bound = bound }

    /// Whether it is open, or waits to be written.
    func knows(_ id: JobID) -> Bool { jobs[id] != nil }

    // MARK: - In

    mutating func add(_ job: Job) { if !isClosed { keep(job) } }

    private mutating func keep(_ job: Job) {
        let before = isChanged.contains(job.id) ? jobs[job.id] : nil
        if !job.isOpen, before?.isOpen ?? true {
            guard endedCount < bound.ended else {
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
        // One that is larger than the bound by itself is taken when nothing else waits.
        pieces.count < bound.pieces && (bytes + piece.size <= bound.bytes || bytes == 0)
    }

    private mutating func forget(_ id: JobID) {
        jobs[id] = nil
        if isChanged.remove(id) != nil { changed.removeAll { $0 == id } }
    }

    /// - Returns: whether the writer is to be woken, which is asked for once until it has taken everything.
    mutating func announce() -> Bool {
        guard !isAnnounced, hasWork else { return false }
        isAnnounced = true
        return true
    }

    /// What is added from now on is ignored.
    mutating func close() { isClosed = true }

    // MARK: - Out

    private var hasWork: Bool { !changed.isEmpty || !pieces.isEmpty }

    /// Everything that waits; nil when nothing does.
    mutating func take() -> Batch? {
        isAnnounced = false
        guard hasWork else { return nil }
        let batch = Batch(jobs: changed.compactMap { jobs[$0] }, pieces: pieces)
        for job in batch.jobs where !job.isOpen { jobs[job.id] = nil }
        (changed, isChanged, endedCount, pieces, bytes) = ([], [], 0, [], 0)
        return batch
    }

    /// What waits of the state of these jobs; nil when nothing does.
    mutating func take(_ ids: [JobID]) -> Batch? {
        let taken = ids.filter { isChanged.remove($0) != nil }
        guard !taken.isEmpty else { return nil }
        changed.removeAll { taken.contains($0) }
        let batch = Batch(jobs: taken.compactMap { jobs[$0] }, pieces: [])
        for job in batch.jobs where !job.isOpen {
            jobs[job.id] = nil
            endedCount -= 1
        }
        return batch
    }

    /// A batch could not be written: its jobs wait again unless they have changed since, and its pieces are left out.
    mutating func putBack(_ batch: Batch) {
        dropped += batch.pieces.count
        let newer = changed
        (changed, isChanged, endedCount) = ([], [], 0)
        for job in batch.jobs { keep(jobs[job.id] ?? job) }
        for id in newer { if let job = jobs[id] { keep(job) } }
    }

    /// The file is another one: every open job is written again.
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
