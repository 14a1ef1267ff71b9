import LDAP

/// A phase of an account (specification: protocol.md#modes-and-states).
public enum AccountPhase: String, CaseIterable, Hashable, Sendable {
    /// Invalid: a requested or claimed mode whose state is not `0`, such as `add` with a timestamp.
    case idle
    /// `add`, state `0`. The raw value is in the JSON of `accounts` and must not change.
    case requested = "wished"
    /// `adding`, state `0`, no ReturnValue: running or interrupted.
    case claimed
    /// `adding`, state `0`, with a ReturnValue.
    case failed
    /// `added`.
    case done
}

/// The operation of a request.
public enum Operation: String, CaseIterable, Hashable, Sendable, Codable {
    case add, modify, delete
}

/// A value of the mode attribute: the operation and its stage (specification: protocol.md#modes-and-states).
public struct ProvisioningMode: Hashable, Sendable {
    /// The progress of a request.
    public enum Stage: CaseIterable, Hashable, Sendable {
        /// `add`: it waits.
        case requested
        /// `adding`: a daemon has claimed it.
        case claimed
        /// `added`: it is done.
        case done
    }

    /// The operation.
    public let operation: Operation
    /// The stage.
    public let stage: Stage

    /// One of the nine modes.
    public init(_ operation: Operation, _ stage: Stage) {
        self.operation = operation
        self.stage = stage
    }

    /// - Parameter text: compared as by `caseIgnoreMatch`.
    /// - Returns: nil for any text that is none of the nine modes.
    public init?(_ text: String) {
        guard let mode = Self.bySpelling[text.caseIgnoreFolded] else { return nil }
        self = mode
    }

    /// All modes, in the order of specification: protocol.md#modes-and-states.
    public static let all = Operation.allCases.flatMap { operation in
        Stage.allCases.map { Self(operation, $0) }
    }

    private static let bySpelling = Dictionary(uniqueKeysWithValues: all.map { ($0.description, $0) })
}

extension ProvisioningMode: CustomStringConvertible {
    /// The value as it is written to the entry.
    public var description: String {
        switch (operation, stage) {
        case (.add, .requested): "add"
        case (.add, .claimed): "adding"
        case (.add, .done): "added"
        case (.modify, .requested): "modify"
        case (.modify, .claimed): "modifying"
        case (.modify, .done): "modified"
        case (.delete, .requested): "delete"
        case (.delete, .claimed): "deleting"
        case (.delete, .done): "deleted"
        }
    }
}
