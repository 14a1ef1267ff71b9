/// One change of one attribute within a modify (RFC 4511, section 4.6; increment: RFC 4525).
public struct Modification: Hashable, Sendable {
    /// What is done with the values.
    public enum Action: Hashable, Sendable {
        /// Adds the values to those that are there.
        case add
        /// Deletes the values, which must be there.
        case delete
        /// Puts the values in the place of all that are there.
        case replace
        /// Adds the one value, a number, to each value that is there (RFC 4525).
        case increment
    }

    /// What is done with the values.
    public var action: Action
    /// The attribute that is changed.
    public var attribute: AttributeName
    /// The values it is done with; for `delete` and `replace`, none means the whole attribute.
    public var values: [AttributeValue]

    /// A change of one attribute.
    public init(_ action: Action, _ attribute: AttributeName, _ values: [AttributeValue]) {
        self.action = action
        self.attribute = attribute
        self.values = values
    }

    /// Adds values.
    public static func add(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.add, attribute, values)
    }

    /// Deletes values, or, without any, the whole attribute; either must be there.
    public static func delete(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.delete, attribute, values)
    }

    /// Replaces all values by these; without any, the attribute is removed, and it need not be there.
    public static func replace(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.replace, attribute, values)
    }
}
