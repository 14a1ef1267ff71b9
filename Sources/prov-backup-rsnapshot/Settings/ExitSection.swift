import DaemonKit
import JobCore

/// `[Exit NAME]`: what the exit codes of some scripts mean.
enum ExitSection {
    static let name = SectionName("Exit", label: "NAME", example: "mine")
    static let codes: ClosedRange<Int32> = 0...255

    /// What a code can mean: a result, or a failure that is worth another try.
    enum Meaning: String, CaseIterable, Sendable {
        case success, failed, aborted, warnings, missed
        case wrongConfiguration = "wrong configuration"
        case undefined, unknown, retry

        /// `retry` is a failure.
        var result: JobResult { JobResult(rawValue: rawValue) ?? .failed }
    }

    static func code(_ code: Int32, example: String? = nil) -> SettingKey<Meaning> {
        SettingKey(
            name, "\(code)", .choice(Meaning.self), default: .failed, example: example,
            meaning:
                "What the exit code means. A code that is not listed means failed; retry is failed and worth another try."
        )
    }

    static let section = SettingsSection(
        name,
        meaning: """
            Exit profiles of your own, chosen by EXIT_PROFILE. A line for each exit code, such as 24 = warnings. Unless it \
            is listed, 75 asks for another try.
            """,
        keys: [],
        pattern: SettingPattern("a number from 0 to 255", example: code(0, example: "success")) { text in
            Int32(text).flatMap { codes.contains($0) && "\($0)" == text ? code($0) : nil }
        })
}
