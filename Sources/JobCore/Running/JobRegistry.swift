/// The open jobs of this process: the one place that knows where each stands, what it has reported and how it is cancelled.
///
/// Whatever changes is passed on to the recorder.
@MainActor public final class JobRegistry {
    /// Lines that a job's report holds; what comes later is counted.
    nonisolated static let longestReport = 2_000
    /// Attempts, steps and letters that a record holds each, so that a job that is tried again for days stays small.
    nonisolated static let longestCourse = 1_000

    fileprivate struct Place {
        var job: Job
        var token: JobToken?
        var profile: ExitProfile?
        var output: LiveOutput?
        var cancel: (@MainActor () -> Void)?
        /// When its first attempt in this process began.
        var began: Timestamp?
        /// Pre and post scripts that failed in its last attempt, for the alert at its end (specification: rows.md D8).
        var scriptFailures: [String] = []
        /// What a job that waits is waiting for just now.
        var obstacle: (@MainActor () -> JobStatus?)?

        @MainActor var now: Job {
            var job = job
            job.status = obstacle?() ?? job.status
            return job
        }
    }

    private var places: [JobID: Place] = [:]
    private var tokens: [String: JobID] = [:]
    private let recorder: any JobRecorder
    private let clock: any WallClock
    private let ended: JobEndHandler

    /// - Parameters:
    ///   - recorder: what is told of every change.
    ///   - ended: is told of every job that comes to its end: every way to an end leads through ``close(_:_:)``.
    public nonisolated init(
        recorder: any JobRecorder, clock: any WallClock = SystemWallClock(), ended: @escaping JobEndHandler = { _ in }
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

    /// One open job; nil when it has ended or never was.
    public func live(_ id: JobID) -> Job? { places[id]?.now }

    /// What the program that the job runs just now has written so far; nil when none runs.
    public func output(of id: JobID) -> CapturedOutput? { places[id]?.output?.captured }

    // MARK: - The life of a job

    /// A job is asked for, or goes on after an earlier run of the daemon. Opening one that is open changes nothing.
    public func open(_ job: Job) {
        guard places[job.id] == nil else { return }
        places[job.id] = Place(job: job.reopened)
        recorder.record(job.reopened.record)
    }

    /// A handler gave it another level or priority.
    func alter(_ job: Job) {
        update(job.id) { place in
            guard place.job.level != job.level || place.job.priority != job.priority else { return false }
            (place.job.level, place.job.priority) = (job.level, job.priority)
            return true
        }
    }

    /// The job stands elsewhere now. One that is cancelled stays so until its end.
    public func status(_ id: JobID, _ status: JobStatus) {
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
    ///   - obstacle: the status of what it waits for at a later moment, for whoever looks then; nil when it does not wait any more.
    package func waits(_ id: JobID, _ status: JobStatus, obstacle: @escaping @MainActor () -> JobStatus?) {
        self.status(id, status)
        change(id) { place in
            if !place.job.isCanceled { place.obstacle = obstacle }
        }
    }

    /// The job has come to its end and leaves the registry.
    public func close(_ id: JobID, _ outcome: JobOutcome) {
        let now = clock.now
        guard var place = remove(id) else { return }
        let last = place
        var job = place.job
        if job.status != outcome.result.status { place.note(outcome.result.status, at: now) }
        (job.status, job.statuses) = (place.job.status, place.job.statuses)
        (job.isCanceled, job.reported) = (false, nil)
        (job.ended, job.result, job.message) = (now, outcome.result, outcome.message)
        job.seconds = (now - (job.started ?? job.created)).seconds
        recorder.record(job.record)
        ended(
            JobEnd(
                job: last.job, outcome: outcome, time: now,
                duration: now - (last.began ?? last.job.created),
                isCanceled: last.job.isCanceled || outcome == .canceled))
    }

    /// The job leaves the registry without an end: the daemon stops, and the job goes on when it starts again.
    func forget(_ id: JobID) { remove(id) }

    @discardableResult
    private func remove(_ id: JobID) -> Place? {
        let place = places.removeValue(forKey: id)
        if let token = place?.token { tokens[token.text] = nil }
        return place
    }

    // MARK: - Attempts

    /// - Returns: what the attempt's scripts report with.
    func beginAttempt(_ id: JobID, number: Int) -> JobToken {
        let token = JobToken()
        let now = clock.now
        guard var place = places[id] else { return token }
        if let old = place.token { tokens[old.text] = nil }
        tokens[token.text] = id
        place.token = token
        place.began = place.began ?? now
        place.scriptFailures = []
        // The first and the newest are kept.
        if place.job.attempts.count >= Self.longestCourse { place.job.attempts.remove(at: 1) }
        place.job.attempts.append(Job.Attempt(number: number, began: now))
        (place.job.attempt, place.job.started) = (number, place.job.started ?? now)
        (place.job.reported, place.job.progress) = (nil, nil)
        place.obstacle = nil
        if !place.job.isCanceled { place.note(.running, at: now) }
        places[id] = place
        recorder.record(place.job.record)
        return token
    }

    /// - Parameter ended: what it came to; nil: it was cut off.
    func endAttempt(_ id: JobID, _ ended: AttemptDriver.Ended?) {
        let now = clock.now
        guard var place = places[id] else { return }
        if let token = place.token { tokens[token.text] = nil }
        (place.token, place.cancel, place.job.step) = (nil, nil, nil)
        if var attempt = place.job.attempts.popLast() {
            (attempt.ended, attempt.fate) = (now, ended == nil ? .cutOff : .ended)
            (attempt.pre, attempt.post) = (ended?.pre, ended?.post)
            (attempt.result, attempt.message) = (ended?.outcome.result, ended?.outcome.message ?? "")
            place.job.attempts.append(attempt)
        }
        places[id] = place
        recorder.record(place.job.record)
    }

    func step(_ id: JobID, _ name: String?) { change(id) { $0.job.step = name } }

    /// A step has come to its end.
    func stepEnded(_ id: JobID, _ step: Job.Step) {
        update(id) { place in
            // Outputs are stored by their step's place, so the first ones are kept.
            guard place.job.steps.count < Self.longestCourse else { return false }
            var step = step
            if let output = step.script?.output {
                recorder.record(output, ofStep: place.job.steps.count, of: id)
                step.script?.output = nil
            }
            place.job.steps.append(step)
            return true
        }
    }

    /// While a program runs: what it writes can be followed, and its reports are read by its profile and taken from its user alone.
    func programRuns(_ id: JobID, output: LiveOutput, profile: ExitProfile, user: UInt32?) {
        change(id) { place in
            place.output = output
            place.profile = profile
            place.token?.user = user
        }
    }

    func programEnded(_ id: JobID) { change(id) { $0.output = nil } }

    func scriptFailed(_ id: JobID, _ text: String) { change(id) { $0.scriptFailures.append(text) } }

    /// The pre and post scripts that failed in the last attempt of a job.
    func scriptFailures(of id: JobID) -> [String] {
        places[id]?.scriptFailures ?? []
    }

    /// Returns once a job as it is now outlasts the end of this process, or cannot be recorded now.
    func recorded(_ id: JobID) async { await recorder.recorded(id) }

    // MARK: - Reports

    /// Adds lines to a job's report: every line feed begins a new one, and control characters are escaped.
    ///
    /// A job that is not open any more gets none; its events may still be under way.
    public func write(_ text: String, to id: JobID, source: ReportLine.Source) {
        for piece in text.split(separator: "\n", omittingEmptySubsequences: true) {
            let line = ReportLine(source, OneLine.of(String(piece)), at: clock.now)
            change(id) { place in
                guard place.job.report.count < Self.longestReport else {
                    place.job.droppedLines += 1
                    return
                }
                place.job.report.append(line)
                recorder.record(line, of: id)
            }
        }
    }

    /// A percentage that is out of range counts as the nearest in range.
    func progress(_ id: JobID, _ percent: Int) {
        let percent = min(max(percent, 0), 100)
        update(id) { place in
            defer { place.job.progress = percent }
            return place.job.progress != percent
        }
    }

    /// Takes what a script says of its own job (specification: rows.md L6, L8).
    /// - Parameters:
    ///   - token: what the script was given; it says which job it is.
    ///   - user: as whom the reporting process runs, as the kernel says.
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
            let profile = place.profile ?? .posix
            let result = JobResult.reported(number) ?? profile.reading(of: .exited(code: number)).result
            change(id) { $0.job.reported = $0.job.reported.map { $0.heavier(result) } ?? result }
            write(
                "the script reports its end: \(result.rawValue) (\(number))", to: id,
                source: .reporter)
        }
    }

    // MARK: - Cancelling

    /// Asks a job to end. What that means depends on where it stands (specification: rows.md D9). It has the letter of a cancelled job from now on, so that
    /// whoever finds it in the history after a crash knows that nobody wants it any more.
    /// - Returns: false when no such job is open.
    @discardableResult
    public func cancel(_ id: JobID) -> Bool {
        status(id, .canceled)
        let cancel: (@MainActor () -> Void)?? = change(id) { place in
            place.job.isCanceled = true
            return place.cancel
        }
        guard let cancel else { return false }
        write("an operator asks to cancel the job", to: id, source: .daemon)
        cancel?()
        return true
    }

    /// Who is to be told when the job is cancelled. When it has been already, they are told at once.
    public func whenCanceled(_ id: JobID, _ cancel: @escaping @MainActor () -> Void) {
        let isLate = change(id) { place in
            place.cancel = cancel
            return place.job.isCanceled
        }
        if isLate ?? false { cancel() }
    }

    /// Changes what is not recorded by itself.
    @discardableResult
    private func change<Value>(_ id: JobID, _ body: (inout Place) -> Value) -> Value? {
        guard let index = places.index(forKey: id) else { return nil }
        return body(&places.values[index])
    }

    /// - Parameter body: returns whether there is something to record.
    private func update(_ id: JobID, _ body: (inout Place) -> Bool) {
        guard let index = places.index(forKey: id), body(&places.values[index]) else { return }
        recorder.record(places.values[index].job.record)
    }
}

extension JobRegistry.Place {
    fileprivate mutating func note(_ status: JobStatus, at time: Timestamp) {
        job.status = status
        if job.statuses.count >= JobRegistry.longestCourse { job.statuses.removeFirst() }
        job.statuses.append(Job.StatusChange(time: time, letter: status))
    }
}
