// SPDX-License-Identifier: Apache-2.0
// Bidirectional encoders with post-norm: BERT, RoBERTa, DistilBERT; bare or with a head for question
// answering or sequence classification. Checkpoints of the pre-training classes are read as bare encoders:
// their own heads are carried over, not run.
#include "model/architectures/rows.h"

namespace nibble {
namespace {

using enum ModuleRole;

Architecture bert() {
  Architecture row;
  row.model_type = "bert";
  row.class_prefix = "Bert";
  row.base_prefix = "bert";
  row.no_split_module = "BertLayer";
  row.classes = {{"BertModel", HeadKind::kNone},
                 {"BertForQuestionAnswering", HeadKind::kSpan},
                 {"BertForSequenceClassification", HeadKind::kSequence},
                 {"BertForMaskedLM", HeadKind::kNone},
                 {"BertForPreTraining", HeadKind::kNone}};
  row.tree = {
      {"bert", "@Model"},
      {"bert.embeddings", "@Embeddings"},
      {"bert.embeddings.word_embeddings", "Embedding", kTokenEmbedding},
      {"bert.embeddings.position_embeddings", "Embedding", kPositionEmbedding},
      {"bert.embeddings.token_type_embeddings", "Embedding", kTypeEmbedding, When::kTokenTypes},
      {"bert.embeddings.LayerNorm", "LayerNorm", kEmbeddingNorm},
      {"bert.embeddings.dropout", "Dropout"},
      {"bert.encoder", "@Encoder"},
      {"bert.encoder.layer", "ModuleList"},
      {"bert.encoder.layer.*", "@Layer", kBlock},
      {"bert.encoder.layer.*.attention", "@Attention", kAttention},
      {"bert.encoder.layer.*.attention.self", "@SelfAttention"},
      {"bert.encoder.layer.*.attention.self.query", "Linear", kQuery},
      {"bert.encoder.layer.*.attention.self.key", "Linear", kKey},
      {"bert.encoder.layer.*.attention.self.value", "Linear", kValue},
      {"bert.encoder.layer.*.attention.self.dropout", "Dropout"},
      {"bert.encoder.layer.*.attention.output", "@SelfOutput"},
      {"bert.encoder.layer.*.attention.output.dense", "Linear", kAttentionOutput},
      {"bert.encoder.layer.*.attention.output.LayerNorm", "LayerNorm", kAttentionResidualNorm},
      {"bert.encoder.layer.*.attention.output.dropout", "Dropout"},
      {"bert.encoder.layer.*.intermediate", "@Intermediate"},
      {"bert.encoder.layer.*.intermediate.dense", "Linear", kUp},
      {"bert.encoder.layer.*.intermediate.intermediate_act_fn", "$"},
      {"bert.encoder.layer.*.output", "@Output"},
      {"bert.encoder.layer.*.output.dense", "Linear", kDown},
      {"bert.encoder.layer.*.output.LayerNorm", "LayerNorm", kMlpResidualNorm},
      {"bert.encoder.layer.*.output.dropout", "Dropout"},
      {"bert.pooler", "@Pooler", kNone, When::kPooler},
      {"bert.pooler.dense", "Linear", kPooler, When::kPooler},
      {"bert.pooler.activation", "Tanh", kNone, When::kPooler},
      {"qa_outputs", "Linear", kSpanHead, When::kSpanHead},
      {"dropout", "Dropout", kNone, When::kSequenceHead},
      {"classifier", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.kv_heads = {"", kSameAsHeads};
  row.keys.head_dim = {"", kHiddenPerHead};
  row.keys.type_vocab = {"type_vocab_size", 2};
  row.keys.max_positions.fallback = 512;
  row.keys.norm_eps = {"layer_norm_eps", 1e-12};
  row.keys.activation_fallback = "gelu";
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.positions = PositionRule::kLearned;
  row.qkv_bias = row.output_bias = row.mlp_bias = {"", true};
  row.classifier_bias = true;
  row.glu = false;
  row.causal = false;
  row.tie_fallback = true;
  return row;
}

Architecture roberta() {
  Architecture row = bert();
  row.model_type = "roberta";
  row.class_prefix = "Roberta";
  row.base_prefix = "roberta";
  row.no_split_module = "RobertaLayer";
  row.classes = {{"RobertaModel", HeadKind::kNone},
                 {"RobertaForQuestionAnswering", HeadKind::kSpan},
                 {"RobertaForSequenceClassification", HeadKind::kSequence},
                 {"RobertaForMaskedLM", HeadKind::kNone}};
  row.tree = {
      {"roberta", "@Model"},
      {"roberta.embeddings", "@Embeddings"},
      {"roberta.embeddings.word_embeddings", "Embedding", kTokenEmbedding},
      {"roberta.embeddings.token_type_embeddings", "Embedding", kTypeEmbedding, When::kTokenTypes},
      {"roberta.embeddings.LayerNorm", "LayerNorm", kEmbeddingNorm},
      {"roberta.embeddings.dropout", "Dropout"},
      {"roberta.embeddings.position_embeddings", "Embedding", kPositionEmbedding},
      {"roberta.encoder", "@Encoder"},
      {"roberta.encoder.layer", "ModuleList"},
      {"roberta.encoder.layer.*", "@Layer", kBlock},
      {"roberta.encoder.layer.*.attention", "@Attention", kAttention},
      {"roberta.encoder.layer.*.attention.self", "@SelfAttention"},
      {"roberta.encoder.layer.*.attention.self.query", "Linear", kQuery},
      {"roberta.encoder.layer.*.attention.self.key", "Linear", kKey},
      {"roberta.encoder.layer.*.attention.self.value", "Linear", kValue},
      {"roberta.encoder.layer.*.attention.self.dropout", "Dropout"},
      {"roberta.encoder.layer.*.attention.output", "@SelfOutput"},
      {"roberta.encoder.layer.*.attention.output.dense", "Linear", kAttentionOutput},
      {"roberta.encoder.layer.*.attention.output.LayerNorm", "LayerNorm", kAttentionResidualNorm},
      {"roberta.encoder.layer.*.attention.output.dropout", "Dropout"},
      {"roberta.encoder.layer.*.intermediate", "@Intermediate"},
      {"roberta.encoder.layer.*.intermediate.dense", "Linear", kUp},
      {"roberta.encoder.layer.*.intermediate.intermediate_act_fn", "$"},
      {"roberta.encoder.layer.*.output", "@Output"},
      {"roberta.encoder.layer.*.output.dense", "Linear", kDown},
      {"roberta.encoder.layer.*.output.LayerNorm", "LayerNorm", kMlpResidualNorm},
      {"roberta.encoder.layer.*.output.dropout", "Dropout"},
      {"roberta.pooler", "@Pooler", kNone, When::kPoolerIfStored},
      {"roberta.pooler.dense", "Linear", kPooler, When::kPoolerIfStored},
      {"roberta.pooler.activation", "Tanh", kNone, When::kPoolerIfStored},
      {"qa_outputs", "Linear", kSpanHead, When::kSpanHead},
      {"classifier", "@ClassificationHead", kNone, When::kSequenceHead},
      {"classifier.dense", "Linear", kPooler, When::kSequenceHead},
      {"classifier.dropout", "Dropout", kNone, When::kSequenceHead},
      {"classifier.out_proj", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.pad_token = {"pad_token_id", 1};
  row.positions = PositionRule::kLearnedFromIds;
  return row;
}

Architecture distilbert() {
  Architecture row = bert();
  row.model_type = "distilbert";
  row.class_prefix = "DistilBert";
  row.base_prefix = "distilbert";
  row.no_split_module = "TransformerBlock";
  row.classes = {{"DistilBertModel", HeadKind::kNone},
                 {"DistilBertForQuestionAnswering", HeadKind::kSpan},
                 {"DistilBertForSequenceClassification", HeadKind::kSequence},
                 {"DistilBertForMaskedLM", HeadKind::kNone}};
  row.tree = {
      {"distilbert", "@Model"},
      {"distilbert.embeddings", "Embeddings"},
      {"distilbert.embeddings.word_embeddings", "Embedding", kTokenEmbedding},
      {"distilbert.embeddings.position_embeddings", "Embedding", kPositionEmbedding},
      {"distilbert.embeddings.LayerNorm", "LayerNorm", kEmbeddingNorm},
      {"distilbert.embeddings.dropout", "Dropout"},
      {"distilbert.transformer", "Transformer"},
      {"distilbert.transformer.layer", "ModuleList"},
      {"distilbert.transformer.layer.*", "TransformerBlock", kBlock},
      {"distilbert.transformer.layer.*.attention", "DistilBertSelfAttention", kAttention},
      {"distilbert.transformer.layer.*.attention.q_lin", "Linear", kQuery},
      {"distilbert.transformer.layer.*.attention.k_lin", "Linear", kKey},
      {"distilbert.transformer.layer.*.attention.v_lin", "Linear", kValue},
      {"distilbert.transformer.layer.*.attention.out_lin", "Linear", kAttentionOutput},
      {"distilbert.transformer.layer.*.attention.dropout", "Dropout"},
      {"distilbert.transformer.layer.*.sa_layer_norm", "LayerNorm", kAttentionResidualNorm},
      {"distilbert.transformer.layer.*.ffn", "FFN", kMlp},
      {"distilbert.transformer.layer.*.ffn.dropout", "Dropout"},
      {"distilbert.transformer.layer.*.ffn.lin1", "Linear", kUp},
      {"distilbert.transformer.layer.*.ffn.lin2", "Linear", kDown},
      {"distilbert.transformer.layer.*.ffn.activation", "$"},
      {"distilbert.transformer.layer.*.output_layer_norm", "LayerNorm", kMlpResidualNorm},
      {"qa_outputs", "Linear", kSpanHead, When::kSpanHead},
      {"pre_classifier", "Linear", kPooler, When::kSequenceHead},
      {"classifier", "Linear", kClassifier, When::kSequenceHead},
      {"dropout", "Dropout", kNone, When::kSpanHead},
      {"dropout", "Dropout", kNone, When::kSequenceHead},
  };
  row.keys.hidden = {"dim|hidden_size"};
  row.keys.layers = {"n_layers|num_hidden_layers"};
  row.keys.heads = {"n_heads|num_attention_heads"};
  row.keys.intermediate = {"hidden_dim"};
  row.keys.type_vocab = {"", 0};
  row.keys.norm_eps = {"", 1e-12};
  row.keys.activation = "activation";
  row.pooler_activation = "relu";
  return row;
}

}  // namespace

void add_bert_family(std::vector<Architecture>& table) {
  for (auto* row : {bert, roberta, distilbert}) table.push_back(row());
}

}  // namespace nibble
