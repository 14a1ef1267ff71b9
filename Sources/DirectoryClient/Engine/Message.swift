import DirectoryModel

/// One message of the server (RFC 4511, section 4.1.1), taken out of the library's memory.
enum Message: Hashable, Sendable {
    case entry(Entry, controls: [Control])
    case reference([String])
    case intermediate(identifier: String?, value: [UInt8]?)
    case result(Outcome)
}

/// The last message of an operation (RFC 4511, section 4.1.9).
struct Outcome: Hashable, Sendable {
    var code: ResultCode
    var matchedDN = ""
    var diagnostic = ""
    var referrals: [String] = []
    var controls: [Control] = []
    /// Of an extended response (RFC 4511, section 4.12).
    var identifier: String?
    var value: [UInt8]?
}

/// All messages of an operation that has ended.
struct Response: Hashable, Sendable {
    var entries: [Entry] = []
    var references: [String] = []
    var outcome = Outcome(code: .success)
}
