/// The open jobs of this process, with their status, their reports, and how they are cancelled.
///
/// Every change is passed to the recorder.
@MainActor public final class JobRegistry {
    /// Lines of scripts and handlers in a report, and as many of the daemon, so that neither can displace the other; later ones are counted.
    nonisolated static let longestReport = 2_000
    /// Attempts, steps and status changes of a record, so that a job that is tried again for days stays small.
    nonisolated static let longestCourse = 1_000

    fileprivate struct Place {
        var job: Job
        var token: JobToken?
        var profile: ExitProfile?
        var output: LiveOutput?
        /// How many lines of the report are the daemon's (true), and how many of scripts and handlers.
        var lines: [Bool: Int] = [:]
        /// What the work's programs reported in this attempt.
        var reported: ExitReading?
        /// What the hook that runs reported; nil: none runs.
        var hookReport: ExitReading??
        var cancel: (@MainActor () -> Void)?
        /// Pre and post scripts that failed in its last attempt (specification: rows.md D8).
        var scriptFailures: [String] = []
        /// Returns the reason why the job waits now.
        var obstacle: (@MainActor () -> JobStatus?)?

        @MainActor var now: Job {
            var job = job
            job.status = obstacle?() ?? job.status
            return job
        }
    }

    private var places: [JobID: Place] = [:]
    /// The numbers of the open jobs by subject, in their order.
    private var ids: [JobSubject: [JobID]] = [:]
    private var tokens: [String: JobID] = [:]
    private let recorder: (any JobRecorder)?
    private let clock: any WallClock
    private let ended: JobEndHandler

    /// - Parameters:
    ///   - recorder: called with every change; nil: nothing is recorded.
    ///   - ended: called for every job that ends.
    public nonisolated init(
        recorder: (any JobRecorder)? = nil, clock: any WallClock = SystemWallClock(),
        ended: @escaping JobEndHandler = { _, _ in }
    ) {
        self.recorder = recorder
        self.clock = clock
        self.ended = ended
    }

    // MARK: - Looking

    /// All open jobs, in the order of their numbers.
    public func live() -> [Job] {
        places.values.map(\.now).sorted { $0.id < $1.id }
    }

    /// The first open jobs: those that run, then those that wait, each in the order of their numbers.
    package func live(most: Int) -> [Job] {
        var (running, others): ([JobID], [JobID]) = ([], [])
        for (id, place) in places { if place.job.status == .running { running.append(id) } else { others.append(id) } }
        return (running.sorted() + others.sorted()).prefix(most).compactMap(live)
    }

    /// The open jobs with a subject, in the order of their numbers.
    package func live(with subject: JobSubject) -> [Job] { ids[subject]?.compactMap(live) ?? [] }

    /// The number of the open jobs.
    package var count: Int { places.count }

    /// One open job; nil when there is none with this number.
    public func live(_ id: JobID) -> Job? { places[id]?.now }

    /// The output so far of the program that the job runs; nil when none runs.
    public func output(of id: JobID) -> CapturedOutput? { places[id]?.output?.captured }

    // MARK: - The life of a job

    /// Opens a job, new or interrupted in a previous run. Opening one that is open changes nothing.
    package func open(_ job: Job) {
        guard places[job.id] == nil else { return }
        var place = Place(job: job.reopened)
        place.scriptFailures = job.scriptFailures
        place.lines = Dictionary(grouping: job.report) { $0.source == .daemon }.mapValues(\.count)
        places[job.id] = place
        let next = ids[job.subject]?.firstIndex { $0 > job.id }
        ids[job.subject, default: []].insert(job.id, at: next ?? ids[job.subject]?.endIndex ?? 0)
        recorder?.record(job.reopened.record)
    }

    /// A handler gave it another level or priority.
    func alter(_ job: Job) {
        update(job.id) { place in
            guard place.job.level != job.level || place.job.priority != job.priority else { return false }
            (place.job.level, place.job.priority) = (job.level, job.priority)
            return true
        }
    }

    /// The status of the job has changed. A cancelled job stays cancelled until its end.
    package func status(_ id: JobID, _ status: JobStatus) {
        update(id) { place in
            place.obstacle = nil
            guard !place.job.isCanceled, place.job.status != status else { return false }
            place.note(status, at: clock.now)
            return true
        }
    }

    /// The job waits.
    /// - Parameters:
    ///   - status: is recorded.
    ///   - obstacle: returns the status at a later moment; nil when the job does not wait any more.
    package func waits(_ id: JobID, _ status: JobStatus, obstacle: @escaping @MainActor () -> JobStatus?) {
        self.status(id, status)
        change(id) { place in
            if !place.job.isCanceled { place.obstacle = obstacle }
        }
    }

    /// The outcome of the job is certain. It is closed when its handlers have been called.
    func closing(_ id: JobID, _ outcome: JobOutcome) {
        update(id) { place in
            (place.job.result, place.job.message) = (outcome.result, outcome.message)
            return true
        }
    }

    /// The job has ended and is removed.
    package func close(_ id: JobID, _ outcome: JobOutcome) {
        let now = clock.now
        guard var place = remove(id) else { return }
        if place.job.status != outcome.result.status { place.note(outcome.result.status, at: now) }
        var job = place.job
        (job.canceler, job.reported) = (nil, nil)
        (job.ended, job.result, job.message) = (now, outcome.result, outcome.message)
        job.seconds = (now - (job.started ?? job.created)).seconds
        recorder?.record(job.record)
        (job.canceler, job.reported) = (place.job.canceler ?? outcome.canceler, place.job.reported)
        ended(job, place.scriptFailures)
    }

    /// Closes a job of a previous run that is not resumed. The message is a line of its report.
    package func closeInterrupted(_ job: Job, _ outcome: JobOutcome) {
        open(job)
        if !outcome.message.isEmpty { write(outcome.message, to: job.id, source: .daemon) }
        close(job.id, outcome)
    }

    /// Removes the job without an end: the daemon stops, and the job continues at the next start.
    func forget(_ id: JobID) { remove(id) }

    @discardableResult
    private func remove(_ id: JobID) -> Place? {
        let place = places.removeValue(forKey: id)
        if let token = place?.token { tokens[token.text] = nil }
        if let subject = place?.job.subject {
            ids[subject]?.removeAll { $0 == id }
            if ids[subject]?.isEmpty ?? false { ids[subject] = nil }
        }
        return place
    }

    // MARK: - Attempts

    /// - Returns: the token for reports of the attempt's scripts.
    func beginAttempt(_ id: JobID, number: Int) -> JobToken {
        let token = JobToken()
        let now = clock.now
        guard var place = places[id] else { return token }
        if let old = place.token { tokens[old.text] = nil }
        tokens[token.text] = id
        place.token = token
        place.scriptFailures = []
        (place.reported, place.hookReport) = (nil, nil)
        // The first and the newest are kept.
        if place.job.attempts.count >= Self.longestCourse { place.job.attempts.remove(at: 1) }
        place.job.attempts.append(Job.Attempt(number: number, began: now))
        (place.job.attempt, place.job.started) = (number, place.job.started ?? now)
        (place.job.reported, place.job.progress) = (nil, nil)
        (place.job.result, place.job.message) = (nil, "")
        place.obstacle = nil
        if !place.job.isCanceled { place.note(.running, at: now) }
        places[id] = place
        recorder?.record(place.job.record)
        return token
    }

    /// - Parameter outcome: nil: it was interrupted.
    func endAttempt(_ id: JobID, _ outcome: JobOutcome?, pre: ScriptStatus? = nil, post: ScriptStatus? = nil) {
        let now = clock.now
        guard var place = places[id] else { return }
        if let token = place.token { tokens[token.text] = nil }
        (place.token, place.cancel, place.job.step) = (nil, nil, nil)
        if var attempt = place.job.attempts.popLast() {
            (attempt.ended, attempt.fate) = (now, outcome == nil ? .cutOff : .ended)
            (attempt.pre, attempt.post) = (pre, post)
            (attempt.result, attempt.message) = (outcome?.result, outcome?.message ?? "")
            place.job.attempts.append(attempt)
        }
        places[id] = place
        recorder?.record(place.job.record)
    }

    func step(_ id: JobID, _ name: String?) { change(id) { $0.job.step = name } }

    /// A step has ended.
    func stepEnded(_ id: JobID, _ step: Job.Step) {
        update(id) { place in
            // Outputs are stored by their step's place, so the first ones are kept.
            guard place.job.steps.count < Self.longestCourse else { return false }
            var step = step
            if let output = step.script?.output {
                recorder?.record(output, ofStep: place.job.steps.count, of: id)
                step.script?.output = nil
            }
            place.job.steps.append(step)
            return true
        }
    }

    /// While a program runs, its output can be followed, and reports are accepted from its user and read by its profile.
    func programRuns(_ id: JobID, output: LiveOutput, profile: ExitProfile, user: UInt32?) {
        change(id) { place in
            place.output = output
            place.profile = profile
            place.token?.user = user
        }
    }

    func programEnded(_ id: JobID) { change(id) { $0.output = nil } }

    /// A pre or post script is about to run: its reports are about itself, until ``hookEnded(_:)``.
    func hookBegins(_ id: JobID) { change(id) { $0.hookReport = .some(nil) } }

    /// - Returns: what the script reported.
    func hookEnded(_ id: JobID) -> ExitReading? {
        change(id) { place in
            defer { place.hookReport = nil }
            return place.hookReport ?? nil
        } ?? nil
    }

    /// What the programs of the work reported in this attempt.
    func reported(_ id: JobID) -> ExitReading? { places[id]?.reported }

    func scriptFailed(_ id: JobID, _ text: String) { change(id) { $0.scriptFailures.append(text) } }

    /// Returns when the current state of a job is safe against the end of this process, or cannot be recorded now.
    package func recorded(_ id: JobID) async { await recorder?.recorded(id) }

    // MARK: - Reports

    /// Adds lines to a job's report: every line feed begins a new one, and control characters are escaped.
    ///
    /// Ignored for a job that is not open any more, since its events may come late.
    public func write(_ text: String, to id: JobID, source: ReportLine.Source) {
        for piece in text.split(separator: "\n", omittingEmptySubsequences: true) {
            let line = ReportLine(source, OneLine.of(String(piece)), at: clock.now)
            change(id) { place in
                guard place.lines[source == .daemon, default: 0] < Self.longestReport else {
                    place.job.droppedLines += 1
                    return
                }
                place.lines[source == .daemon, default: 0] += 1
                place.job.report.append(line)
                recorder?.record(line, of: id)
            }
        }
    }

    /// - Parameter percent: clamped to 0…100.
    func progress(_ id: JobID, _ percent: Int) {
        let percent = min(max(percent, 0), 100)
        update(id) { place in
            defer { place.job.progress = percent }
            return place.job.progress != percent
        }
    }

    /// Takes the report of a script on its own job (specification: rows.md L6, L8).
    /// - Parameters:
    ///   - token: the token of the script, which identifies the job.
    ///   - user: of the reporting process, from the kernel.
    public func report(_ message: ReporterMessage, token: String, user: UInt32) throws(ReporterRefusal) {
        guard let id = tokens[token], let place = places[id], let owner = place.token else { throw .unknownToken }
        guard owner.allows(user) else { throw .wrongUser(user) }
        switch message {
        case .started:
            write("the script reports that it has begun", to: id, source: .reporter)
        case .progress(let percent):
            guard (0...100).contains(percent) else { throw .percentOutOfRange(percent) }
            progress(id, percent)
        case .finished(let number):
            guard (0...255).contains(number) else { throw .resultOutOfRange(number) }
            let reading = ExitReading.reported(number, place.profile ?? .posix)
            change(id) { place in
                if case .some(let earlier) = place.hookReport {
                    place.hookReport = .some(earlier?.heavier(reading) ?? reading)
                } else {
                    place.reported = place.reported?.heavier(reading) ?? reading
                    place.job.reported = place.reported?.result
                }
            }
            write(
                "the script reports its end: \(reading.result.rawValue) (\(number))", to: id,
                source: .reporter)
        }
    }

    // MARK: - Cancelling

    /// Asks a job to end. The effect depends on its phase (specification: rows.md D9). It has the letter of a cancelled job from now on, so that
    /// the next start after a crash does not resume it.
    /// - Parameter canceler: who asks; the first one counts.
    /// - Returns: false when no such job is open.
    @discardableResult
    public func cancel(_ id: JobID, by canceler: Canceler = .operator) -> Bool {
        guard let place = places[id] else { return false }
        update(id) { place in
            guard !place.job.isCanceled else { return false }
            place.obstacle = nil
            place.job.canceler = canceler
            place.note(.canceled, at: clock.now)
            return true
        }
        write("\(canceler.words) asks to cancel the job", to: id, source: .daemon)
        place.cancel?()
        return true
    }

    /// The outcome of a job whose cancellation was requested; nil: it was not.
    package func cancellation(of id: JobID) -> JobOutcome? { places[id]?.job.canceler.map { .canceled(by: $0) } }

    /// Sets the function to call when the job is cancelled, in place of an earlier one. If it has been cancelled already, the function is called at
    /// once.
    package func whenCanceled(_ id: JobID, _ cancel: @escaping @MainActor () -> Void) {
        let isLate = change(id) { place in
            place.cancel = cancel
            return place.job.isCanceled
        }
        if isLate ?? false { cancel() }
    }

    /// A change that is not recorded.
    @discardableResult
    private func change<Value>(_ id: JobID, _ body: (inout Place) -> Value) -> Value? {
        guard let index = places.index(forKey: id) else { return nil }
        return body(&places.values[index])
    }

    /// - Parameter body: returns whether to record the change.
    private func update(_ id: JobID, _ body: (inout Place) -> Bool) {
        guard let index = places.index(forKey: id), body(&places.values[index]) else { return }
        recorder?.record(places.values[index].job.record)
    }
}

extension JobRegistry.Place {
    fileprivate mutating func note(_ status: JobStatus, at time: Timestamp) {
        job.status = status
        if job.statuses.count >= JobRegistry.longestCourse { job.statuses.removeFirst() }
        job.statuses.append(Job.StatusChange(time: time, letter: status))
    }
}

/// Called once for every job that ends, for the log, for mail, and to count failures. It must neither block nor fail.
/// - Parameters:
///   - job: its record. ``Job/canceler``: who asked for its end.
///   - scriptFailures: its pre and post scripts that failed in the last attempt (specification: rows.md D8).
public typealias JobEndHandler = @Sendable (_ job: Job, _ scriptFailures: [String]) -> Void

/// Records the state of jobs for the registry. It must neither block nor fail, and must not call the registry.
public protocol JobRecorder: Sendable {
    /// A job was opened, has changed or has ended.
    /// - Parameter job: its state now, without the long parts, which are recorded separately.
    func record(_ job: Job)
    /// A job's report has another line.
    func record(_ line: ReportLine, of job: JobID)
    /// A program has ended.
    /// - Parameter step: its place among the steps of the job.
    func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID)
    /// Returns when the state of a job that was recorded before is safe against the end of this process, or cannot be recorded now.
    func recorded(_ id: JobID) async
}

/// The report of a script on its own job, by the reporter command (specification: rows.md L6).
public enum ReporterMessage: Codable, Hashable, Sendable {
    /// `-r`: the work has begun.
    case started
    /// `-f R`: the work has ended.
    case finished(Int32)
    /// `-p N`: percent.
    case progress(Int)
}

/// Why a report is refused.
public enum ReporterRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The token belongs to no job that runs.
    case unknownToken
    /// The process belongs to another user than the job's script.
    case wrongUser(UInt32)
    /// Not within 0…100.
    case percentOutOfRange(Int)
    /// No program exits with such a code: not within 0…255.
    case resultOutOfRange(Int32)

    /// The message, with the hint.
    public var description: String {
        switch self {
        case .unknownToken:
            "no job that runs has this token; report from within the job's own script, whose environment holds PROV_JOB_TOKEN"
        case .wrongUser(let user):
            "user \(user) does not run the job's script; report from within the script itself"
        case .percentOutOfRange(let percent):
            "a progress of \(percent) is not possible; give a percentage from 0 to 100"
        case .resultOutOfRange(let result): "a result of \(result) is not possible; give a number from 0 to 255"
        }
    }
}
