import LDAP

/// What a wish asks for.
public enum Operation: String, CaseIterable, Hashable, Sendable {
    case add, modify, delete
}

/// A value of the mode attribute: what is asked, and how far it has come (specification: protocol.md#modes-and-states).
public struct ProvisioningMode: Hashable, Sendable {
    /// How far a wish has come.
    public enum Stage: CaseIterable, Hashable, Sendable {
        /// `add`: somebody asks for it.
        case wish
        /// `adding`: a daemon has claimed it.
        case claimed
        /// `added`: it is done.
        case done
    }

    /// What is asked.
    public let operation: Operation
    /// How far it has come.
    public let stage: Stage

    /// One of the nine modes.
    public init(_ operation: Operation, _ stage: Stage) {
        self.operation = operation
        self.stage = stage
    }

    /// - Parameter text: as `caseIgnoreMatch` compares.
    /// - Returns: nil for any text that is none of the nine modes.
    public init?(_ text: String) {
        guard let mode = Self.bySpelling[text.caseIgnoreFolded] else { return nil }
        self = mode
    }

    /// The nine, in the order of specification: protocol.md#modes-and-states.
    public static let all = Operation.allCases.flatMap { operation in
        Stage.allCases.map { Self(operation, $0) }
    }

    private static let bySpelling = Dictionary(uniqueKeysWithValues: all.map { ($0.description, $0) })
}

extension ProvisioningMode: CustomStringConvertible {
    /// The value as it is written to the entry.
    public var description: String {
        switch (operation, stage) {
        case (.add, .wish): "add"
        case (.add, .claimed): "adding"
        case (.add, .done): "added"
        case (.modify, .wish): "modify"
        case (.modify, .claimed): "modifying"
        case (.modify, .done): "modified"
        case (.delete, .wish): "delete"
        case (.delete, .claimed): "deleting"
        case (.delete, .done): "deleted"
        }
    }
}
