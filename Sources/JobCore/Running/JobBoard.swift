import Synchronization

/// The open jobs of this process: the one place that knows where each stands, what it has reported and how it is cancelled.
///
/// Whatever changes is passed on to the recorder. The lock is held for looking up and changing a value, never while anything waits.
public final class JobBoard: Sendable {
    /// Lines that a job's report holds; what comes later is counted.
    static let longestReport = 2_000

    private struct Place {
        var live: LiveJob
        var token: JobToken?
        var profile: ExitProfile?
        var output: LiveOutput?
        var cancel: (@Sendable () -> Void)?
        /// When its first attempt in this process began.
        var began: WallTime?
        /// What a job that waits is waiting for just now.
        var obstacle: (@Sendable () -> JobStatus?)?

        /// Not to be asked for while the board is locked.
        var now: LiveJob {
            var live = live
            live.status = obstacle?() ?? live.status
            return live
        }
    }

    private struct State {
        var places: [JobID: Place] = [:]
        var tokens: [String: JobID] = [:]
    }

    private let state = Mutex(State())
    private let recorder: any JobRecorder
    private let clock: any WallClock
    private let ended: JobEndHandler

    /// - Parameters:
    ///   - recorder: what is told of every change.
    ///   - ended: is told of every job that comes to its end: every way to an end leads through ``close(_:_:)``.
    public init(
        recorder: any JobRecorder, clock: any WallClock = SystemWallClock(), ended: @escaping JobEndHandler = { _ in }
    ) {
        self.recorder = recorder
        self.clock = clock
        self.ended = ended
    }

    // MARK: - Looking

    /// All open jobs, in the order of their numbers.
    public func live() -> [LiveJob] {
        state.withLock { Array($0.places.values) }.map(\.now).sorted { $0.job.id < $1.job.id }
    }

    /// One open job; nil when it has ended or never was.
    public func live(_ id: JobID) -> LiveJob? { state.withLock { $0.places[id] }?.now }

    /// What the program that the job runs just now has written so far; nil when none runs.
    public func output(of id: JobID) -> CapturedOutput? { state.withLock { $0.places[id]?.output }?.captured }

    // MARK: - The life of a job

    /// A job is asked for. Opening one that is open changes nothing.
    public func open(_ job: Job) {
        let isNew = state.withLock { state in
            guard state.places[job.id] == nil else { return false }
            state.places[job.id] = Place(live: LiveJob(job: job, status: .created))
            return true
        }
        if isNew { record(.opened(job), of: job.id) }
    }

    /// A handler gave it another level or priority.
    func alter(_ job: Job) {
        let isAltered = change(job.id) { place in
            guard place.live.job != job else { return false }
            place.live.job = job
            return true
        }
        if isAltered ?? false { record(.altered(job), of: job.id) }
    }

    /// The job stands elsewhere now. One that is cancelled stays so until its end.
    public func status(_ id: JobID, _ status: JobStatus) {
        let isChanged = change(id) { place in
            place.obstacle = nil
            guard !place.live.isCanceled, place.live.status != status else { return false }
            place.live.status = status
            return true
        }
        if isChanged ?? false { record(.status(status), of: id) }
    }

    /// The job waits.
    /// - Parameters:
    ///   - status: is recorded.
    ///   - obstacle: the status of what it waits for at a later moment, for whoever looks then; nil when it does not wait any more.
    package func waits(_ id: JobID, _ status: JobStatus, obstacle: @escaping @Sendable () -> JobStatus?) {
        self.status(id, status)
        change(id) { place in
            if !place.live.isCanceled { place.obstacle = obstacle }
        }
    }

    /// The job has come to its end and leaves the board.
    public func close(_ id: JobID, _ outcome: JobOutcome) {
        let last: Place? = state.withLock { state in
            guard let place = state.places.removeValue(forKey: id) else { return nil }
            if let token = place.token { state.tokens[token.text] = nil }
            return place
        }
        guard let last else { return }
        if last.live.status != outcome.result.status { record(.status(outcome.result.status), of: id) }
        record(.closed(outcome), of: id)
        let now = clock.now
        ended(
            JobEnd(
                job: last.live.job, outcome: outcome, time: now, duration: now - (last.began ?? last.live.job.created),
                isCanceled: last.live.isCanceled || outcome == .canceled))
    }

    /// The job leaves the board without an end: the daemon stops, and the job goes on when it starts again.
    func forget(_ id: JobID) {
        state.withLock { state in
            if let token = state.places.removeValue(forKey: id)?.token { state.tokens[token.text] = nil }
        }
    }

    // MARK: - Attempts

    /// - Returns: what the attempt's scripts report with.
    func beginAttempt(_ id: JobID, number: Int) -> JobToken {
        let token = JobToken()
        let now = clock.now
        state.withLock { state in
            guard var place = state.places[id] else { return }
            if let old = place.token { state.tokens[old.text] = nil }
            state.tokens[token.text] = id
            place.token = token
            place.live.attempt = number
            place.live.began = now
            place.began = place.began ?? now
            place.live.reported = nil
            place.live.progress = nil
            place.live.scriptFailures = []
            state.places[id] = place
        }
        record(.attemptBegan(number: number), of: id)
        status(id, .running)
        return token
    }

    func endAttempt(_ id: JobID) {
        state.withLock { state in
            guard var place = state.places[id] else { return }
            if let token = place.token { state.tokens[token.text] = nil }
            place.token = nil
            place.live.step = nil
            place.cancel = nil
            state.places[id] = place
        }
    }

    func step(_ id: JobID, _ name: String?) { change(id) { $0.live.step = name } }

    /// While a program runs: what it writes can be followed, and its reports are read by its profile and taken from its user alone.
    func programRuns(_ id: JobID, output: LiveOutput, profile: ExitProfile, user: UInt32?) {
        change(id) { place in
            place.output = output
            place.profile = profile
            place.token?.user = user
        }
    }

    func programEnded(_ id: JobID) { change(id) { $0.output = nil } }

    func scriptFailed(_ id: JobID, _ text: String) { change(id) { $0.live.scriptFailures.append(text) } }

    /// Returns once what the board told before outlasts the end of this process, or cannot be recorded now.
    func recorded() async { await recorder.recorded() }

    func record(_ event: JobChange.Event, of id: JobID) { recorder.record(JobChange(event, of: id, at: clock.now)) }

    // MARK: - Reports

    /// Adds lines to a job's report: every line feed begins a new one, and control characters are escaped.
    ///
    /// A job that is not open any more gets none; its events may still be under way.
    public func write(_ text: String, to id: JobID, source: ReportLine.Source) {
        for piece in text.split(separator: "\n", omittingEmptySubsequences: true) {
            let line = ReportLine(source, OneLine.of(String(piece)))
            let isTaken = change(id) { place in
                guard place.live.report.count < Self.longestReport else {
                    place.live.droppedLines += 1
                    return false
                }
                place.live.report.append(line)
                return true
            }
            if isTaken ?? false { record(.reported(line), of: id) }
        }
    }

    /// A percentage that is out of range counts as the nearest in range.
    func progress(_ id: JobID, _ percent: Int) {
        let percent = min(max(percent, 0), 100)
        let isNews = change(id) { place in
            defer { place.live.progress = percent }
            return place.live.progress != percent
        }
        if isNews ?? false { record(.progress(percent), of: id) }
    }

    /// Takes what a script says of its own job (rows L6, L8).
    /// - Parameters:
    ///   - token: what the script was given; it says which job it is.
    ///   - user: as whom the reporting process runs, as the kernel says.
    public func report(_ message: ReporterMessage, token: String, user: UInt32) throws(ReporterRefusal) {
        let found: (id: JobID, place: Place)? = state.withLock { state in
            guard let id = state.tokens[token], let place = state.places[id] else { return nil }
            return (id, place)
        }
        guard let found, let owner = found.place.token else { throw .unknownToken }
        guard owner.allows(user) else { throw .wrongUser(user) }
        switch message {
        case .started:
            write("the script reports that it has begun", to: found.id, source: .reporter)
        case .progress(let percent):
            guard (0...100).contains(percent) else { throw .percentOutOfRange(percent) }
            progress(found.id, percent)
        case .finished(let number):
            guard (0...255).contains(number) else { throw .resultOutOfRange(number) }
            let profile = found.place.profile ?? .posix
            let result = JobResult.reported(number) ?? profile.reading(of: .exited(code: number)).result
            change(found.id) { $0.live.reported = $0.live.reported.map { $0.heavier(result) } ?? result }
            write("the script reports its end: \(result.rawValue) (\(number))", to: found.id, source: .reporter)
        }
    }

    // MARK: - Cancelling

    /// Asks a job to end. What that means depends on where it stands (row D9). It has the letter of a cancelled job from now on, so that
    /// whoever finds it in the history after a crash knows that nobody wants it any more.
    /// - Returns: false when no such job is open.
    @discardableResult
    public func cancel(_ id: JobID) -> Bool {
        status(id, .canceled)
        let cancel: (@Sendable () -> Void)?? = change(id) { place in
            place.live.isCanceled = true
            return place.cancel
        }
        guard let cancel else { return false }
        write("an operator asks to cancel the job", to: id, source: .daemon)
        cancel?()
        return true
    }

    /// Who is to be told when the job is cancelled. When it has been already, they are told at once.
    public func whenCanceled(_ id: JobID, _ cancel: @escaping @Sendable () -> Void) {
        let isLate = change(id) { place in
            place.cancel = cancel
            return place.live.isCanceled
        }
        if isLate ?? false { cancel() }
    }

    @discardableResult
    private func change<Value: Sendable>(_ id: JobID, _ body: (inout Place) -> Value) -> Value? {
        state.withLock { state in
            guard let index = state.places.index(forKey: id) else { return nil }
            return body(&state.places.values[index])
        }
    }
}
