/// What became of a pre or post script (Druva's words).
public enum ScriptStatus: String, CaseIterable, Hashable, Sendable, Codable {
    /// It ended with 0.
    case successful = "Successful"
    /// It ended with another code, or was ended.
    case failed = "Failed"
    /// It is not there, or it was not its turn.
    case skipped = "Skipped"
    /// Such scripts are off, or nothing was reported (row D14).
    case notAvailable = "N/A"

    /// The number that a post script is given (row D4).
    public var integer: Int32 {
        switch self {
        case .successful: 0
        case .failed: 1
        case .skipped: 4
        case .notAvailable: 255
        }
    }
}
