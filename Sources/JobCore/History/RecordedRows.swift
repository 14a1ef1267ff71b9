import FoundationEssentials
import GRDB

// Reads the values of the history back from its rows. A row that only a damaged file can hold is an error, not a guess.

extension RecordedJob {
    init(_ row: Row) throws {
        self.init(
            id: JobID(column: row["id"]), type: JobType(rawValue: row["type"]), name: row["name"], level: row["level"],
            subject: row["subject"], client: row["client"], priority: row["priority"], created: row.time("created"),
            status: try row.letter("status"), progress: row["progress"], attempts: row["attempts"],
            interruptions: row["interruptions"],
            began: row.time("began"),
            ended: row.time("ended"), ending: try RecordedEnding(row))
    }
}

extension RecordedEnding {
    /// Of a job or an attempt; nil while there is none.
    init?(_ row: Row) throws {
        guard let result: JobResult = try row.word("result") else { return nil }
        self.init(
            result: result, failureClass: try row.word("class"), message: row["message"] ?? "",
            exitCode: row["exit_code"], signal: row["signal"])
    }
}

extension RecordedAttempt {
    init(_ row: Row, steps: [RecordedStep]) throws {
        self.init(
            number: row["number"], began: row.time("began"), ended: row.time("ended"),
            fate: try row.word("fate") ?? .running, pre: try row.word("pre"), post: try row.word("post"),
            ending: try RecordedEnding(row), steps: steps)
    }
}

extension RecordedStatus {
    init(_ row: Row) throws { self.init(time: row.time("time"), status: try row.letter("letter")) }
}

extension RecordedLine {
    init(_ row: Row) throws {
        self.init(time: row.time("time"), source: try row.word("source") ?? .daemon, text: row["text"])
    }
}

extension RecordedStep {
    init(_ row: Row) throws {
        self.init(
            name: row["name"], began: row.time("began"), microseconds: row["duration"],
            result: try row.word("result") ?? .unknown, program: try RecordedProgram(row))
    }
}

extension RecordedProgram {
    /// Nil for a step without a program.
    fileprivate init?(_ row: Row) throws {
        guard let arguments: Data = row["arguments"] else { return nil }
        self.init(
            arguments: TextList.texts(arguments), refusal: row["refusal"], file: RecordedFile(row),
            end: try RecordedEnd(row))
    }
}

extension RecordedFile {
    fileprivate init?(_ row: Row) {
        guard let path: String = row["path"] else { return nil }
        self.init(
            path: path, resolvedPath: row["resolved_path"], device: UInt64(bitPattern: row["device"]),
            inode: UInt64(bitPattern: row["inode"]), owner: row["owner"], mode: row["mode"], size: row["size"],
            modified: row.time("modified"), sha256: row["sha256"])
    }
}

extension RecordedEnd {
    fileprivate init?(_ row: Row) throws {
        guard let cause: String = row["cause"] else { return nil }
        guard let read = ScriptResult.Cause(column: cause) else { throw row.damage("cause") }
        self.init(
            exitCode: row["exit_code"], signal: row["signal"], cause: read, microseconds: row["script_duration"],
            survivors: TextList.texts(row["survivors"]),
            output: CapturedOutput(
                head: Array(row["output_head"] as Data), tail: Array(row["output_tail"] as Data),
                dropped: row["output_dropped"]))
    }
}

extension Row {
    fileprivate func time(_ column: String) -> WallTime { WallTime(microsecondsSince1970: self[column]) }

    fileprivate func time(_ column: String) -> WallTime? {
        (self[column] as Int64?).map(WallTime.init(microsecondsSince1970:))
    }

    fileprivate func letter(_ column: String) throws -> JobStatus {
        guard let status = JobStatus(letter: self[column]) else { throw damage(column) }
        return status
    }

    fileprivate func word<Word: RawRepresentable<String>>(_ column: String) throws -> Word? {
        guard let text: String = self[column] else { return nil }
        guard let word = Word(rawValue: text) else { throw damage(column) }
        return word
    }

    fileprivate func damage(_ column: String) -> DatabaseError {
        DatabaseError(resultCode: .SQLITE_CORRUPT, message: "column \(column) holds an unknown value")
    }
}
