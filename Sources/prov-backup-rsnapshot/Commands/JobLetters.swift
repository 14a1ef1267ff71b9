import ArgumentParser
import Daemon
import JobCore

/// The letters of a job's status, as they are typed and read.
enum JobLetters {
    /// - Throws: `ValidationError`, which names all letters.
    static func check(_ letters: String) throws {
        guard let wrong = letters.first(where: { JobStatus(rawValue: $0) == nil }) else { return }
        let all = JobStatus.allCases.map { "\($0.letter) \($0.title)" }.joined(separator: ", ")
        throw ValidationError(
            "--status: no status has the letter \(OneLine.escaping(String(wrong))); there are: \(all).")
    }
}
