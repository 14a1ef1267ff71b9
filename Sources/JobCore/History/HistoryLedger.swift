import FoundationEssentials
import GRDB

/// Writes changes into the tables, in their order.
///
/// A change of a job that the file does not know is preceded by what is known of that job, or left out when nothing is.
struct HistoryLedger {
    /// This opening's number.
    var run: Int64 = 0
    private var open = OpenJobs()

    /// For changes that are not written: what they mean is remembered all the same.
    mutating func note(_ changes: some Sequence<JobChange>) {
        for change in changes { open.note(change) }
    }

    /// - Throws: the database's error; then the transaction must be rolled back, ``rolledBack()`` called, and this change and all that
    ///   follow it noted.
    mutating func write(_ change: JobChange, in database: Database) throws {
        let writer = Writer(database: database, job: change.job.column, time: change.time.microsecondsSince1970)
        if case .opened(let job) = change.event {
            try writer.job(job, run: run, status: .created)
            open.note(change)
            open.stored(change.job)
            return
        }
        guard try isStored(change.job, before: change, in: database) else { return }
        switch change.event {
        case .opened: break
        case .altered(let job): try writer.altered(job)
        case .status(let status): try writer.status(status)
        // It can stand there already: written with its job, when that was not in the file.
        case .attemptBegan(let number): if try writer.running(number) == nil { _ = try writer.attempt(number) }
        case .stepEnded(let step): try writer.step(step)
        case .progress(let percent): try writer.progress(percent)
        case .reported(let line): try writer.line(line)
        case .attemptEnded(let number, let pre, let body, let post):
            try writer.attemptEnded(number, .ended, pre: pre, post: post, outcome: body)
        case .attemptCutOff(let number): try writer.attemptEnded(number, .cutOff)
        case .closed(let outcome): try writer.closed(outcome)
        }
        open.note(change)
    }

    /// Ends that could not be written before.
    mutating func writePendingEnds(in database: Database) throws {
        for id in open.pendingEnds {
            guard let place = open[id], let end = place.end else { continue }
            let writer = Writer(database: database, job: id.column, time: end.time.microsecondsSince1970)
            try writer.job(place.job, run: run, status: place.status)
            try writer.closed(end.outcome)
        }
    }

    mutating func committed() { open.committed() }

    mutating func rolledBack() { open.forgetStored() }

    /// Whether the file has the job; one that is open is written when it has not.
    private mutating func isStored(_ id: JobID, before change: JobChange, in database: Database) throws -> Bool {
        guard let place = open[id] else {
            let statement = try database.cachedStatement(sql: "SELECT 1 FROM job WHERE id = ?")
            return try Int.fetchOne(statement, arguments: [id.column]) != nil
        }
        guard place.stored != open.generation else { return true }
        try Writer(database: database, job: id.column, time: change.time.microsecondsSince1970)
            .job(place.job, run: run, status: place.status)
        if let attempt = place.attempt {
            let writer = Writer(database: database, job: id.column, time: attempt.began.microsecondsSince1970)
            if try writer.running(attempt.number) == nil { _ = try writer.attempt(attempt.number) }
        }
        open.stored(id)
        return true
    }
}

/// The statements of one change.
private struct Writer {
    let database: Database
    let job: Int64
    /// Microseconds since 1970.
    let time: Int64

    func run(_ sql: String, _ values: [(any DatabaseValueConvertible)?]) throws {
        try database.cachedStatement(sql: sql).execute(arguments: StatementArguments(values))
    }

    /// One that is there already is opened again: it goes on in this run.
    func job(_ job: Job, run number: Int64, status: JobStatus) throws {
        try run(
            """
            INSERT INTO job (id, run, type, name, level, subject, client, priority, created, status)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET run = excluded.run, level = excluded.level, priority = excluded.priority,
                status = excluded.status, ended = NULL, result = NULL, class = NULL, message = NULL, exit_code = NULL,
                signal = NULL
            """,
            [
                self.job, number, job.type.rawValue, job.name, job.level, job.subject.description, job.client,
                job.priority, job.created.microsecondsSince1970, status.letter,
            ])
    }

    func altered(_ job: Job) throws {
        try run("UPDATE job SET level = ?, priority = ? WHERE id = ?", [job.level, job.priority, self.job])
    }

    func status(_ status: JobStatus) throws {
        try run("UPDATE job SET status = ? WHERE id = ?", [status.letter, job])
        try run("INSERT INTO status (job, time, letter) VALUES (?, ?, ?)", [job, time, status.letter])
    }

    func progress(_ percent: Int) throws { try run("UPDATE job SET progress = ? WHERE id = ?", [percent, job]) }

    func line(_ line: ReportLine) throws {
        try run(
            "INSERT INTO report (job, time, source, text) VALUES (?, ?, ?, ?)",
            [job, time, line.source.rawValue, line.text])
    }

    func closed(_ outcome: JobOutcome) throws {
        try run(
            """
            UPDATE job SET status = ?, ended = ?, result = ?, class = ?, message = ?, exit_code = ?, signal = ?
            WHERE id = ?
            """, [outcome.result.status.letter, time] + columns(outcome) + [job])
    }

    /// - Returns: the row of the attempt.
    func attempt(_ number: Int) throws -> Int64 {
        try run("INSERT INTO attempt (job, number, began) VALUES (?, ?, ?)", [job, number, time])
        return database.lastInsertedRowID
    }

    /// - Returns: the row of the attempt of that number that began last, of those that run.
    func running(_ number: Int) throws -> Int64? {
        let statement = try database.cachedStatement(
            sql: "SELECT max(id) FROM attempt WHERE job = ? AND number = ? AND fate IS NULL")
        return try Int64.fetchOne(statement, arguments: [job, number])
    }

    func attemptEnded(
        _ number: Int, _ fate: RecordedAttempt.Fate, pre: ScriptStatus? = nil, post: ScriptStatus? = nil,
        outcome: JobOutcome? = nil
    ) throws {
        let row = try running(number) ?? attempt(number)
        try run(
            """
            UPDATE attempt SET ended = ?, fate = ?, pre = ?, post = ?, result = ?, class = ?, message = ?,
                exit_code = ?, signal = ? WHERE id = ?
            """, [time, fate.rawValue, pre?.rawValue, post?.rawValue] + columns(outcome) + [row])
    }

    func step(_ step: JobStep) throws {
        let row = try running(step.attempt) ?? attempt(step.attempt)
        let common: [(any DatabaseValueConvertible)?] = [
            row, step.name, step.began.microsecondsSince1970, step.duration.microseconds, step.result.rawValue,
        ]
        guard let script = step.script else {
            try run("INSERT INTO step (attempt, name, began, duration, result) VALUES (?, ?, ?, ?, ?)", common)
            return
        }
        let file = script.identity
        let ended = script.ended
        let (exitCode, signal) = columns(ended?.termination)
        let program: [(any DatabaseValueConvertible)?] = [
            TextList.blob(script.arguments), script.refusal, file?.path.string, file?.resolvedPath.string,
            file.map { Int64(bitPattern: $0.device) }, file.map { Int64(bitPattern: $0.inode) }, file?.owner,
            file?.mode,
            file?.size, file?.modified.microseconds, file?.sha256, exitCode, signal, ended?.cause.column,
            ended?.duration.microseconds, ended.map { TextList.blob($0.survivors) },
            ended.map { Data($0.output.head) }, ended.map { Data($0.output.tail) }, ended?.output.dropped,
        ]
        try run(
            """
            INSERT INTO step (attempt, name, began, duration, result, arguments, refusal, path, resolved_path, device,
                inode, owner, mode, size, modified, sha256, exit_code, signal, cause, script_duration, survivors,
                output_head, output_tail, output_dropped)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """, common + program)
    }

    private func columns(_ outcome: JobOutcome?) -> [(any DatabaseValueConvertible)?] {
        let (exitCode, signal) = columns(outcome?.termination)
        return [outcome?.result.rawValue, outcome?.failureClass?.rawValue, outcome?.message, exitCode, signal]
    }

    private func columns(_ termination: ScriptResult.Termination?) -> (exitCode: Int32?, signal: Int32?) {
        switch termination {
        case .exited(let code): (code, nil)
        case .signaled(let number): (nil, number)
        case nil: (nil, nil)
        }
    }
}
